package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Drop-ins are the files "*.toml" in the directory that is named as the file
// with ".d" behind it.
const (
	dropInDirectory = ".d"
	dropInEnd       = ".toml"
	maxDropIns      = 100
)

// Load reads the file at path, which must exist, over the defaults, and then
// its drop-ins (see Files): a key of a later file replaces that of an earlier
// one, and lists of tables ([[window]]) add up. Every problem of all files is
// reported at once in an *Error. UTF-8 with or without byte order mark and
// both kinds of line ends are accepted.
func Load(path string) (Config, error) { return load(path, false) }

// LoadOptional is Load for the default path: a file that does not exist is an
// empty file. It may have drop-ins all the same.
func LoadOptional(path string) (Config, error) { return load(path, true) }

func load(path string, optional bool) (Config, error) {
	files, problems, err := readAll(path, optional)
	if err != nil {
		return Config{}, err
	}
	return parse(files, problems)
}

// readAll reads the file at path and its drop-ins.
func readAll(path string, optional bool) (files []file, problems []Problem, err error) {
	names, err := Files(path)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		data, err := read(name)
		switch {
		case err == nil:
			files = append(files, file{path: name, data: data})
		case optional && name == path && errors.Is(err, fs.ErrNotExist):
		default:
			problems = append(problems, Problem{File: name, Message: err.Error()})
		}
	}
	return files, problems, nil
}

// Files are the files that Load reads for path, in order: path itself, whether
// or not it exists, and what ends in ".toml" and is not hidden in the directory
// path + ".d", by name. That directory need not exist. An error is an *Error.
func Files(path string) ([]string, error) {
	directory := path + dropInDirectory
	entries, err := os.ReadDir(directory)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Problems: []Problem{{File: directory, Message: plain(err).Error()}}}
	}
	files := []string{path}
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, ".") || !strings.HasSuffix(name, dropInEnd) {
			continue
		}
		// What is not a file is left to read, which refuses it: an admin who
		// put it there wanted something.
		files = append(files, filepath.Join(directory, name))
	}
	if len(files) > maxDropIns+1 {
		return nil, &Error{Problems: []Problem{{File: directory, Message: fmt.Sprintf("has more than %d files", maxDropIns)}}}
	}
	return files, nil
}

// read returns the content of a regular file; its errors do not name the path.
func read(path string) ([]byte, error) {
	// Look before opening: opening a FIFO waits for a writer.
	info, err := os.Stat(path)
	if err != nil {
		return nil, plain(err)
	}
	switch {
	case info.IsDir():
		return nil, errors.New("is a directory, expected a file")
	case !info.Mode().IsRegular():
		return nil, errors.New("is not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, plain(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, plain(err)
	}
	if len(data) > maxSize {
		return nil, fmt.Errorf("is larger than %d KiB and cannot be a configuration of kured", maxSize>>10)
	}
	return data, nil
}

// plain is the cause of a file error without operation and path.
func plain(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("cannot be read: %w", pe.Err)
	}
	return fmt.Errorf("cannot be read: %w", err)
}

// file is one file's content.
type file struct {
	path string
	data []byte
}

// open parses the file.
func (f file) open() (*document, *Problem) {
	if bytes.HasPrefix(f.data, []byte{0xff, 0xfe}) || bytes.HasPrefix(f.data, []byte{0xfe, 0xff}) {
		return nil, &Problem{Line: 1, Message: "is UTF-16, expected UTF-8"}
	}
	return newDocument(bytes.TrimPrefix(f.data, []byte("\xef\xbb\xbf")))
}
