#!/bin/bash
# release.sh: makes in DIST the packages of the version that is tagged, their SBOMs, and SHA256SUMS; with KURED_SIGNING_KEY
# (what gpg --local-user takes) also SHA256SUMS.asc. `make release` calls it. VERSION, ARCHES and FORMATS are make's.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
	echo "release: $*" >&2
	exit 1
}

[ -z "$(git status --porcelain)" ] || fail "there are files that are not in the commit: git status"
tagged=$(packaging/version.sh)
[ "$VERSION" = "$tagged" ] || fail "VERSION is $VERSION, but this commit is $tagged"
go run ./packaging/changelog -release -version "$VERSION"
# Before the packages are built: a key that cannot sign is known at once.
if [ -n "${KURED_SIGNING_KEY:-}" ]; then
	gpg --batch --quiet --local-user "$KURED_SIGNING_KEY" --detach-sign --output /dev/null --yes <<<test ||
		fail "gpg cannot sign with the key KURED_SIGNING_KEY"
fi

# Nothing of another version gets into the sums.
rm -rf "$DIST"/{stage,kured_*,SHA256SUMS*}
make -s packages "VERSION=$VERSION" "DIST=$DIST" "ARCHES=$ARCHES" "FORMATS=$FORMATS"
cd "$DIST"
sha256sum -- kured_* >SHA256SUMS
if [ -n "${KURED_SIGNING_KEY:-}" ]; then
	gpg --batch --quiet --local-user "$KURED_SIGNING_KEY" --armor --detach-sign --output SHA256SUMS.asc SHA256SUMS
	echo "$DIST/SHA256SUMS, signed by $KURED_SIGNING_KEY"
else
	echo "$DIST/SHA256SUMS, not signed: KURED_SIGNING_KEY is not set"
fi
