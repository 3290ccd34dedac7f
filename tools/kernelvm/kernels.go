package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// kernel is one kernel of Debian, unpacked.
type kernel struct {
	series  string // "6.1"
	pkg     string
	version string // of the package
	image   string // the path of its vmlinuz
}

func (k kernel) name() string { return "Debian " + k.series }

// errNoPackage is the error for a series that the machine's repositories do not have.
var errNoPackage = errors.New("no such package in the repositories that apt knows")

// findKernel returns the newest kernel of a series that the machine's repositories have, downloading it
// unless it is in the cache. The cloud flavour is the smallest; it has the console, the loopback and
// everything that BPF needs built in, so that no module is needed.
func findKernel(ctx context.Context, cache, series string) (kernel, error) {
	k, err := newest(ctx, series)
	if err != nil {
		// The lists may be missing, as they are in a fresh container.
		if _, updateErr := output(ctx, "apt-get", "update", "-q"); updateErr != nil {
			return k, errors.Join(err, updateErr)
		}
		if k, err = newest(ctx, series); err != nil {
			return k, err
		}
	}
	directory := filepath.Join(cache, k.pkg+"_"+strings.ReplaceAll(k.version, ":", "%3a"))
	k.image = filepath.Join(directory, "vmlinuz")
	if _, err := os.Stat(k.image); err == nil {
		return k, nil
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return k, fmt.Errorf("making the cache of kernels: %w", err)
	}
	err = k.download(ctx, directory)
	if err != nil {
		// The lists may be of yesterday, and the repository without what they name.
		_, updateErr := output(ctx, "apt-get", "update", "-q")
		if err = errors.Join(updateErr, k.download(ctx, directory)); err != nil {
			return k, err
		}
	}
	return k, nil
}

// newest asks apt for the newest package of a series.
func newest(ctx context.Context, series string) (kernel, error) {
	k := kernel{series: series}
	pattern := `^linux-image-` + regexp.QuoteMeta(series) + `\.[0-9].*-cloud-amd64-unsigned$`
	text, err := output(ctx, "apt-cache", "search", "--names-only", pattern)
	if err != nil {
		return k, err
	}
	var names []string
	for line := range strings.Lines(text) {
		name, _, _ := strings.Cut(line, " ")
		names = append(names, name)
	}
	if len(names) == 0 {
		return k, fmt.Errorf("looking for a kernel %s as %s: %w", series, pattern, errNoPackage)
	}
	slices.Sort(names) // so that equal versions do not depend on apt's order
	text, err = output(ctx, "apt-cache", append([]string{"madison"}, names...)...)
	if err != nil {
		return k, err
	}
	for line := range strings.Lines(text) {
		fields := strings.Split(line, "|")
		if len(fields) != 3 {
			continue
		}
		name, version := strings.TrimSpace(fields[0]), strings.TrimSpace(fields[1])
		if k.version == "" || exec.CommandContext(ctx, "dpkg", "--compare-versions", version, "gt",
			k.version).Run() == nil {
			k.pkg, k.version = name, version
		}
	}
	if k.version == "" {
		return k, fmt.Errorf("looking for a version of %s: %w", strings.Join(names, ", "), errNoPackage)
	}
	return k, nil
}

// download fetches the package and takes its kernel out.
func (k kernel) download(ctx context.Context, directory string) error {
	work, err := os.MkdirTemp(directory, "download")
	if err != nil {
		return fmt.Errorf("making a directory: %w", err)
	}
	defer os.RemoveAll(work)
	// apt downloads as a user of its own, who may not write here.
	c := exec.CommandContext(ctx, "apt-get", "download", "-q", "-o", "APT::Sandbox::User=root",
		k.pkg+"="+k.version)
	c.Dir = work
	if text, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("downloading %s: %w\n%s", k.pkg, err, text)
	}
	packages, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(packages) != 1 {
		return fmt.Errorf("downloading %s: %d files came", k.pkg, len(packages))
	}
	unpack := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", packages[0])
	stream, err := unpack.StdoutPipe()
	if err != nil {
		return fmt.Errorf("unpacking %s: %w", k.pkg, err)
	}
	if err := unpack.Start(); err != nil {
		return fmt.Errorf("unpacking %s: %w", k.pkg, err)
	}
	image := filepath.Join(work, "vmlinuz")
	err = extractKernel(stream, image)
	_, _ = io.Copy(io.Discard, stream) // so that dpkg-deb ends well
	if err = errors.Join(err, unpack.Wait()); err != nil {
		return fmt.Errorf("unpacking %s: %w", k.pkg, err)
	}
	if err := os.Rename(image, k.image); err != nil {
		return fmt.Errorf("keeping the kernel of %s: %w", k.pkg, err)
	}
	return nil
}

// extractKernel writes the one kernel in a tar stream to a file.
func extractKernel(stream io.Reader, to string) error {
	r := tar.NewReader(stream)
	for {
		h, err := r.Next()
		if err != nil {
			return fmt.Errorf("looking for boot/vmlinuz: %w", err)
		}
		if !strings.HasPrefix(strings.TrimPrefix(h.Name, "./"), "boot/vmlinuz-") {
			continue
		}
		f, err := os.Create(to)
		if err != nil {
			return fmt.Errorf("writing the kernel: %w", err)
		}
		_, err = io.Copy(f, r)
		return errors.Join(err, f.Close())
	}
}

// output runs a command and returns what it prints.
func output(ctx context.Context, name string, arguments ...string) (string, error) {
	text, err := exec.CommandContext(ctx, name, arguments...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(arguments, " "), err, exit.Stderr)
		}
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return string(text), nil
}
