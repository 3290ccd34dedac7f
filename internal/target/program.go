package target

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/whyspin/whyspin/internal/evidence"
)

// maxSection bounds what is read of a section of an executable: names and constants of the largest program
// that is looked into, node, have 6 MB.
const maxSection = 32 << 20

// Symbols and constants by which programs are known whatever they are called. nginx prints its version from
// the constant; Redis has its version elsewhere, Node in too large a place.
var (
	nginxVersion = regexp.MustCompile(`nginx version: nginx/([0-9]+\.[0-9]+\.[0-9]+)`)
	redisSays    = []byte("Redis version=%s, bits=%d, commit=%s")
	nodeStart    = []byte("_ZN4node5StartEiPPc")
	libuvInit    = []byte("\x00uv_loop_init\x00")
	pythonMain   = []byte("\x00Py_BytesMain\x00")
	pythonFile   = regexp.MustCompile(`^(?:lib)?python(3\.[0-9]+)`)
	asyncioFile  = regexp.MustCompile(`/_asyncio\.[^/]*\.so$`)
	loopFile     = regexp.MustCompile(`^lib(uv|event|ev)[-_.][^/]*so`)
)

// Recognise says which program a process runs and what its event loop is made of, by what is in its
// executable and what is mapped into it; nil when nothing is sure, or when that may not be read.
func Recognise(pid int) *evidence.Program {
	directory, err := Directory(pid)
	if err != nil {
		return nil
	}
	file, err := os.Open(filepath.Join(directory, "exe"))
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }()
	if info, err := buildinfo.Read(file); err == nil {
		return &evidence.Program{Name: "Go", Version: strings.TrimPrefix(info.GoVersion, "go"),
			EventLoop: evidence.LoopNetpoll}
	}
	image, err := elf.NewFile(file)
	if err != nil {
		return nil
	}
	path, _ := os.Readlink(filepath.Join(directory, "exe"))
	p := recognise(image, filepath.Base(strings.TrimSuffix(path, deletedSuffix)), mappedFiles(directory))
	if p == nil {
		return nil
	}
	if arguments := commandLine(directory); p.Name == "nginx" && len(arguments) > 0 {
		// What its processes make of their own titles: "nginx: worker process".
		role, titled := strings.CutPrefix(arguments[0], "nginx: ")
		for _, known := range []string{evidence.RoleWorker, evidence.RoleMaster} {
			if titled && strings.HasPrefix(role, known) {
				p.Role = known
			}
		}
	}
	return p
}

// recognise goes by the names that the executable has for the linker, by its constants when it is called as
// if they would tell, and by the files that are mapped.
func recognise(image *elf.File, name string, files []string) *evidence.Program {
	names := section(image, ".dynstr")
	loop := eventLoop(names, files)
	switch {
	case bytes.Contains(names, nodeStart) || mapped(files, "libnode.so"):
		return &evidence.Program{Name: "Node.js", EventLoop: loop}
	case bytes.Contains(names, pythonMain) || mapped(files, "libpython3"):
		return &evidence.Program{Name: "Python", Version: pythonVersion(name, files), EventLoop: loop}
	case strings.HasPrefix(name, "nginx"):
		if found := nginxVersion.FindSubmatch(section(image, ".rodata")); found != nil {
			return &evidence.Program{Name: "nginx", Version: string(found[1])}
		}
	case strings.HasPrefix(name, "redis-"):
		if bytes.Contains(section(image, ".rodata"), redisSays) {
			return &evidence.Program{Name: "Redis"}
		}
	}
	if loop != "" {
		return &evidence.Program{EventLoop: loop}
	}
	return nil
}

// eventLoop names the library of which an event loop is made. That Python has asyncio is seen by the part of
// it that is written in C.
func eventLoop(names []byte, files []string) string {
	if bytes.Contains(names, libuvInit) {
		return evidence.LoopLibuv
	}
	for _, file := range files {
		if found := loopFile.FindStringSubmatch(filepath.Base(file)); found != nil {
			return "lib" + found[1]
		}
	}
	for _, file := range files {
		if asyncioFile.MatchString(file) {
			return evidence.LoopAsyncio
		}
	}
	return ""
}

func pythonVersion(name string, files []string) string {
	for _, file := range append([]string{name}, files...) {
		if found := pythonFile.FindStringSubmatch(filepath.Base(file)); found != nil {
			return found[1]
		}
	}
	return ""
}

func section(image *elf.File, name string) []byte {
	s := image.Section(name)
	if s == nil || s.Size > maxSection {
		return nil
	}
	text, err := s.Data()
	if err != nil {
		return nil
	}
	return text
}

// mappedFiles lists the files that are mapped into a process.
func mappedFiles(directory string) (files []string) {
	text, err := os.ReadFile(filepath.Join(directory, "maps"))
	if err != nil {
		return nil
	}
	last, lines := "", 0
	for line := range strings.Lines(string(text)) {
		if lines++; lines > maxMappings {
			break
		}
		at := strings.IndexByte(line, '/')
		if at < 0 {
			continue
		}
		if file := strings.TrimSuffix(strings.TrimSpace(line[at:]), deletedSuffix); file != last {
			files = append(files, file)
			last = file
		}
	}
	return files
}

func mapped(files []string, prefix string) bool {
	for _, file := range files {
		if strings.HasPrefix(filepath.Base(file), prefix) {
			return true
		}
	}
	return false
}
