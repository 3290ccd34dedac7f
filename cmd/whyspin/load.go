package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/whyspin/whyspin/internal/config"
)

// maxConfigFile bounds what is read of a configuration file: the parser takes no more than that in all. A
// wrong name, say of a device that never ends, must not fill the memory.
const maxConfigFile = 16 << 20

// load reads and checks configuration files.
func load(names []string, allowFaults bool) (*config.Config, error) {
	sources, err := read(names)
	if err != nil {
		return nil, err
	}
	return parse(sources, allowFaults)
}

func parse(sources []config.File, allowFaults bool) (*config.Config, error) {
	return config.Parse(sources, config.Options{LookupEnv: os.LookupEnv, AllowFaults: allowFaults})
}

// read reads configuration files, and reports all that cannot be read. A directory stands for its files that
// end in .cfg, in order of name.
func read(names []string) ([]config.File, error) {
	var sources []config.File
	var wrong []error
	for _, name := range names {
		paths, err := expand(name)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("reading the configuration: %w", err))
			continue
		}
		for _, path := range paths {
			text, err := readFile(path)
			if err != nil {
				wrong = append(wrong, fmt.Errorf("reading the configuration: %w", err))
				continue
			}
			sources = append(sources, config.File{Name: path, Text: text})
		}
	}
	return sources, errors.Join(wrong...)
}

// readFile reads a file, or a device or pipe, whose size nobody knows before.
func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxConfigFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxConfigFile {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxConfigFile)
	}
	return text, nil
}

// expand returns the files that a name on the command line stands for.
func expand(name string) ([]string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".cfg") && !strings.HasPrefix(e.Name(), ".") {
			paths = append(paths, filepath.Join(name, e.Name()))
		}
	}
	slices.Sort(paths)
	if len(paths) == 0 {
		return nil, fmt.Errorf("no file in %s ends in .cfg", name)
	}
	return paths, nil
}
