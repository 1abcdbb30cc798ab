package kube

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Find is the kubeconfig to use: the configured path, or the one of Places that
// exists. If several exist it does not choose: one of them may be left over
// from a cluster that this machine was in before, and with it we would hold the
// lock of one cluster and take a node of another one down. Errors are *Error.
func Find(configured string) (string, error) { return find("/", configured) }

// find is Find below another root. A configured path is taken as it is.
func find(root, configured string) (string, error) {
	if configured != "" {
		_, err := check(configured)
		return configured, err
	}
	var found []place
	for _, d := range Distributions() {
		for _, path := range d.Places {
			path = filepath.Join(root, path)
			info, err := check(path)
			var e *Error
			if errors.As(err, &e) && e.Kind == NotFound {
				continue
			}
			if err != nil {
				// A place that exists and cannot be used is the answer too:
				// taking the next one would make us act as somebody else.
				return path, err
			}
			if !slices.ContainsFunc(found, func(p place) bool { return os.SameFile(p.info, info) }) {
				found = append(found, place{path, info})
			}
			break
		}
	}
	if len(found) > 1 {
		found = slices.DeleteFunc(found, func(p place) bool { return isKubeletConfiguration(p.path) })
	}
	switch len(found) {
	case 0:
		return "", &Error{Kind: NotFound, Err: fmt.Errorf("the kubelet has none in its usual places: %s", strings.Join(Places(), ", "))}
	case 1:
		return found[0].path, nil
	default:
		paths := make([]string, len(found))
		for i, p := range found {
			paths[i] = p.path
		}
		return "", &Error{Kind: Ambiguous, Err: errors.New(strings.Join(paths, ", "))}
	}
}

// place is a file that Find has found.
type place struct {
	path string
	info os.FileInfo
}

// check sees that path is a file, and not a directory.
func check(path string) (os.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	if info.IsDir() {
		return nil, &Error{Kind: Unreadable, Path: path, Err: errors.New("is a directory")}
	}
	return info, nil
}

// isKubeletConfiguration reports whether the file says of itself that it is the
// other file of a kubelet, the one that --config names. OpenShift keeps that
// one where kubeadm has the kubeconfig.
func isKubeletConfiguration(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false // it stays in the choice, and is named
	}
	defer func() { _ = f.Close() }() // only read
	const enough = 1 << 20
	data, err := io.ReadAll(io.LimitReader(f, enough))
	if err != nil {
		return false
	}
	var object struct {
		Kind string `json:"kind"`
	}
	return yaml.Unmarshal(data, &object) == nil && object.Kind == "KubeletConfiguration"
}
