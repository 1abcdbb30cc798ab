package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sort"
)

// Bounds of what is given to the TOML parser, whose memory grows with the
// square of the nesting. A configuration has a few KB and one level.
const (
	maxSize   = 64 << 10
	maxLine   = 4 << 10 // bounds dotted keys
	maxBraces = 100     // bounds nested inline tables
)

// Load reads the file at path, which must exist, over the defaults. Every
// problem is reported at once in an *Error. UTF-8 with or without byte order
// mark and both kinds of line ends are accepted.
func Load(path string) (Config, error) {
	data, err := read(path)
	if err != nil {
		return Config{}, &Error{Problems: []Problem{{File: path, Message: err.Error()}}}
	}
	return parse(path, data)
}

// LoadOptional is Load for the default path: a file that does not exist is an
// empty file.
func LoadOptional(path string) (Config, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return Default(), nil
	}
	return Load(path)
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

// parse decodes data over the defaults and validates the result.
func parse(path string, data []byte) (Config, error) {
	if bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}) {
		return Config{}, &Error{Problems: []Problem{{File: path, Line: 1, Message: "is UTF-16, expected UTF-8"}}}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))

	if p := outOfBounds(data); p != nil {
		p.File = path
		return Config{}, &Error{Problems: []Problem{*p}}
	}

	doc, syntax := newDocument(data)
	if syntax != nil {
		syntax.File = path
		return Config{}, &Error{Problems: []Problem{*syntax}}
	}
	cfg := Default()
	problems := doc.decode(&cfg)

	// A key that could not be decoded keeps its default; do not judge it twice.
	broken := map[string]bool{}
	for _, p := range problems {
		broken[p.Key] = true
	}
	for _, p := range cfg.Validate() {
		if broken[p.Key] {
			continue
		}
		p.Line = doc.lineOf(p.Key)
		if p.Line == 0 {
			// Its default clashes with another key, which is in the file.
			switch p.Key {
			case "retry.max":
				p.Line = doc.lineOf("retry.initial")
			case "lock.policy":
				p.Line = doc.lineOf("lock.name")
			}
		}
		problems = append(problems, p)
	}
	if len(problems) == 0 {
		return cfg, nil
	}
	for i := range problems {
		problems[i].File = path
	}
	sort.SliceStable(problems, func(i, j int) bool { return problems[i].Line < problems[j].Line })
	return Config{}, &Error{Problems: problems}
}

// outOfBounds reports the first line with which data leaves the bounds.
func outOfBounds(data []byte) *Problem {
	braces, number := 0, 0
	for line := range bytes.Lines(data) {
		number++
		if bytes.HasPrefix(bytes.TrimLeft(line, " \t"), []byte("#")) {
			continue
		}
		if len(line) > maxLine {
			return &Problem{Line: number, Message: fmt.Sprintf("line of more than %d bytes", maxLine)}
		}
		if braces += bytes.Count(line, []byte("{")); braces > maxBraces {
			return &Problem{Line: number, Message: fmt.Sprintf("more than %d inline tables", maxBraces)}
		}
	}
	return nil
}
