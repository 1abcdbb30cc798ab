#!/bin/sh
# Prints the version of this checkout in a form that Debian, RPM and people order alike:
#   tag v1.2.3                 1.2.3
#   tag v1.3.0-rc.1            1.3.0~rc.1                (before 1.3.0)
#   5 commits after v1.2.3     1.2.3+5.g1a2b3c4          (after 1.2.3)
#   no tag, 40 commits         0.1.0~dev.40.g1a2b3c4     (before 0.1.0)
# and .dirty at the end of it when files differ from the commit.
set -eu

if ! commit=$(git rev-parse --short=7 HEAD 2>/dev/null); then
	echo 0.1.0~dev
	exit 0
fi

if described=$(git describe --tags --match 'v[0-9]*' --long --abbrev=7 2>/dev/null); then
	# v1.3.0-rc.1-5-g1a2b3c4: the last two fields are git's.
	hash=${described##*-}
	rest=${described%-*}
	after=${rest##*-}
	tag=${rest%-*}
	version=$(printf %s "${tag#v}" | sed -e 's/-/~/' -e 's/-/./g')
	[ "$after" = 0 ] || version="$version+$after.$hash"
else
	version="0.1.0~dev.$(git rev-list --count HEAD).g$commit"
fi

if ! git diff --quiet HEAD --; then
	case $version in
	*.g*) version="$version.dirty" ;;
	*) version="$version+dirty" ;;
	esac
fi
echo "$version"
