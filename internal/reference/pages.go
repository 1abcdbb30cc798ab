package reference

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Page is a page of the documentation.
type Page struct {
	Path    string // from the root of the checkout
	Blocks  []Block
	Anchors []string // of its headings, as GitHub makes them
	Links   []string // targets that are neither URLs nor mail addresses
	Text    string   // without the blocks
}

// Block is a fenced block of a page.
type Block struct {
	Language string
	Line     int // of its first line
	Text     string
}

var (
	fence   = regexp.MustCompile("^ *```(\\S*)")
	heading = regexp.MustCompile(`^#{1,6} +(.*?)(?: +#*)?$`)
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	code    = regexp.MustCompile("`[^`]*`")
	marks   = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// Pages are README.md, CONTRIBUTING.md, the pages of the monitoring kit and
// everything in docs.
func Pages(root string) ([]Page, error) {
	var paths []string
	for _, pattern := range []string{"README.md", "CONTRIBUTING.md", "docs/*.md", "docs/man/*.md", "packaging/*/README.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return nil, err
		}
		paths = append(paths, found...)
	}
	var pages []Page
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return nil, err
		}
		page, err := parsePage(name, string(data))
		if err != nil {
			return nil, err
		}
		pages = append(pages, page)
	}
	return pages, nil
}

func parsePage(name, text string) (Page, error) {
	page := Page{Path: name}
	var rest strings.Builder
	var block *Block
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\r\n")
		if m := fence.FindStringSubmatch(line); m != nil {
			if block == nil {
				block = &Block{Language: m[1], Line: number + 1}
			} else {
				page.Blocks = append(page.Blocks, *block)
				block = nil
			}
			continue
		}
		if block != nil {
			block.Text += line + "\n"
			continue
		}
		rest.WriteString(line + "\n")
		if m := heading.FindStringSubmatch(line); m != nil {
			page.Anchors = append(page.Anchors, page.anchor(m[1]))
		}
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(line, ""), -1) {
			if !strings.Contains(m[1], "://") && !strings.HasPrefix(m[1], "mailto:") {
				page.Links = append(page.Links, m[1])
			}
		}
	}
	if block != nil {
		return page, fmt.Errorf("%s:%d: the block does not end", name, block.Line)
	}
	page.Text = rest.String()
	return page, nil
}

// anchor is what a link to the heading says behind "#".
func (p Page) anchor(title string) string {
	title = strings.ReplaceAll(title, "`", "")
	name := strings.ReplaceAll(marks.ReplaceAllString(strings.ToLower(title), ""), " ", "-")
	for n, wanted := 1, name; slices.Contains(p.Anchors, name); n++ {
		name = fmt.Sprintf("%s-%d", wanted, n)
	}
	return name
}
