package nodes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

// open returns the directory tree that a path of the node lies in, and the path relative to it: the file
// system of the running node for what is not on its disk, else the disk, which can be used while the node
// is off too. An os.Root keeps links of the node from leading out of it.
func (n *Node) open(name string) (*os.Root, string, error) {
	if !path.IsAbs(name) {
		return nil, "", fmt.Errorf("%s: path %q is not absolute", n.Name, name)
	}
	name = path.Clean(name)
	if rest, ok := strings.CutPrefix(name, "/var/run/"); ok {
		name = "/run/" + rest // a link to an absolute path, which os.Root refuses
	}
	top := n.root()
	for _, volatile := range []string{"/run/", "/tmp/", "/dev/", "/proc/", "/sys/"} {
		if strings.HasPrefix(name, volatile) {
			leader, err := n.Leader()
			if err != nil {
				return nil, "", err
			}
			top = fmt.Sprintf("/proc/%d/root", leader)
		}
	}
	root, err := os.OpenRoot(top)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", n.Name, err)
	}
	return root, strings.TrimPrefix(name, "/"), nil
}

func (n *Node) inRoot(name string, f func(root *os.Root, rel string) error) error {
	root, rel, err := n.open(name)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	if err := f(root, rel); err != nil {
		return fmt.Errorf("%s: %w", n.Name, err)
	}
	return nil
}

// ReadFile reads a file of the node.
func (n *Node) ReadFile(name string) (text []byte, err error) {
	err = n.inRoot(name, func(root *os.Root, rel string) (err error) {
		text, err = root.ReadFile(rel)
		return err
	})
	return text, err
}

// WriteFile writes a file of the node, and makes the directories that lead to it.
func (n *Node) WriteFile(name string, text []byte, mode fs.FileMode) error {
	return n.inRoot(name, func(root *os.Root, rel string) error {
		if err := root.MkdirAll(path.Dir(rel), 0o755); err != nil {
			return err
		}
		if err := root.WriteFile(rel, text, mode); err != nil {
			return err
		}
		return root.Chmod(rel, mode) // whatever the umask, and if it was there
	})
}

// Touch makes an empty file or, if it exists, sets its times to now.
func (n *Node) Touch(name string) error {
	return n.inRoot(name, func(root *os.Root, rel string) error {
		f, err := root.OpenFile(rel, os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		now := time.Now()
		return errors.Join(f.Close(), root.Chtimes(rel, now, now))
	})
}

// Remove removes a file or directory tree of the node; it need not exist.
func (n *Node) Remove(name string) error {
	return n.inRoot(name, func(root *os.Root, rel string) error { return root.RemoveAll(rel) })
}

// Exists tells whether the node has a file of that name.
func (n *Node) Exists(name string) (bool, error) {
	err := n.inRoot(name, func(root *os.Root, rel string) error {
		_, err := root.Lstat(rel)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
