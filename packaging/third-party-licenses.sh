#!/bin/bash
# third-party-licenses.sh BINARY: prints names, versions, licenses and notices of all that is linked into BINARY.
# Equal texts are printed once.
set -euo pipefail
shopt -s nullglob

binary=$(realpath "$1")
cd "$(dirname "$0")/.."

declare -A dir_of modules_of file_of
while read -r module dir; do
	dir_of[$module]=$dir
done < <(go list -m -f '{{.Path}} {{.Dir}}' all)

add() { # NAME FILE
	local sum
	sum=$(sha256sum "$2" | cut -c1-64)
	modules_of[$sum]+="$1"$'\n'
	file_of[$sum]=$2
}

add "Go $(go env GOVERSION)" "$(go env GOROOT)/LICENSE"
while read -r module version; do
	found=
	for file in "${dir_of[$module]}"/{LICENSE,LICENCE,COPYING,NOTICE,AUTHORS,PATENTS}*; do
		[[ -f $file && $file != *.go ]] || continue
		[[ $file != */[LC]* ]] || found=yes
		add "$module $version" "$file"
	done
	[ -n "$found" ] || { echo "$module $version: no license file found" >&2; exit 1; }
done < <(go version -m "$binary" | awk '$1 == "dep" {print $2, $3}')

echo "kured is built from the Go standard library and these Go modules."
for sum in "${!modules_of[@]}"; do
	printf '%s\t%s\n' "${modules_of[$sum]%%$'\n'*}" "$sum"
done | LC_ALL=C sort | cut -f2 | while read -r sum; do
	printf '\n%s\n%s\n' "----------------------------------------------------------------------" "${modules_of[$sum]}"
	cat "${file_of[$sum]}"
done
