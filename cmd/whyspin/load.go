package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/whyspin/whyspin/internal/config"
)

// maxConfigFile bounds a configuration file. The parser has limits of its own; this one keeps a wrong name,
// say of a device, from filling the memory.
const maxConfigFile = 64 << 20

// load reads and checks configuration files. A directory stands for its files that end in .cfg, in order of
// name.
func load(names []string, allowFaults bool) (*config.Config, error) {
	var sources []config.File
	for _, name := range names {
		paths, err := expand(name)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			info, err := os.Stat(path)
			if err != nil {
				return nil, fmt.Errorf("reading the configuration: %w", err)
			}
			if info.Size() > maxConfigFile {
				return nil, fmt.Errorf("reading the configuration: %s has %d bytes, more than %d", path,
					info.Size(),
					maxConfigFile)
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("reading the configuration: %w", err)
			}
			sources = append(sources, config.File{Name: path, Text: text})
		}
	}
	return config.Parse(sources, config.Options{LookupEnv: os.LookupEnv, AllowFaults: allowFaults})
}

// expand returns the files that a name on the command line stands for.
func expand(name string) ([]string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	var paths []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".cfg") && !strings.HasPrefix(e.Name(), ".") {
			paths = append(paths, filepath.Join(name, e.Name()))
		}
	}
	slices.Sort(paths)
	if len(paths) == 0 {
		return nil, fmt.Errorf("reading the configuration: no file in %s ends in .cfg", name)
	}
	return paths, nil
}
