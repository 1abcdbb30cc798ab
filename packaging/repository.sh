#!/bin/bash
# repository.sh: adds the packages of kured that lie in DIST to a signed apt repository and a signed dnf repository in REPO,
# beside the versions that are there already. `make repo` calls it. Served by any web server, REPO is:
#   kured.asc                    the public key
#   kured.sources, kured.repo    what nodes need, if REPO_URL says where REPO is served
#   apt/pool, apt/dists/stable   component main; InRelease and Release.gpg are signed
#   dnf/*.rpm, dnf/repodata      each rpm is signed, and repomd.xml by repomd.xml.asc
# KURED_SIGNING_KEY (what gpg --local-user takes) signs. Without it a throw-away key does, from REPO.gnupg.
# The index is what lies in apt/pool and dnf: to take a version out, remove its files and run this again.
#
# apt-ftparchive and not reprepro: the reprepro of Debian 12 keeps one version of a package only, and nodes shall be able
# to go back. From the same packages, history and SOURCE_DATE_EPOCH come the same Release, Packages and, where the rpms
# are the same, repomd.xml. Signatures are new each time, and so is an rpm when it is signed.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022
export LC_ALL=C

fail() {
	echo "repo: $*" >&2
	exit 1
}

shopt -s nullglob
debs=("$DIST"/kured_*.deb)
rpms=("$DIST"/kured_*.rpm)
if [ ${#debs[@]} = 0 ] && [ ${#rpms[@]} = 0 ] && [ ! -e "$REPO/kured.asc" ]; then
	fail "there are no packages in $DIST: make release, or make packages, or put those of a release there"
fi
# One that the sums do not name is not of that release either.
if [ -e "$DIST/SHA256SUMS" ]; then
	for file in "${debs[@]}" "${rpms[@]}"; do
		sum=$(sha256sum <"$file")
		grep -qxF "${sum%% *}  ${file##*/}" "$DIST/SHA256SUMS" || fail "$DIST/SHA256SUMS does not name ${file##*/} with these bytes"
	done
fi

mkdir -p "$REPO"
REPO=$(realpath "$REPO")
exec 9>"$REPO/.lock"
flock 9
rm -rf "$REPO"/.new.*
work=$(mktemp -d "$REPO/.new.XXXXXX")
agent=
trap 'rm -rf "$work"; [ -z "$agent" ] || gpgconf --kill gpg-agent' EXIT

# The key. Its fingerprint is asked of gpg by a signature, so that a key that cannot sign is known before anything changes.
fingerprint() { # of the first key in what gpg lists
	awk -F: '$1 == "fpr" { print $10; exit }'
}
before=
[ ! -e "$REPO/kured.asc" ] || before=$(gpg --batch --quiet --with-colons --show-keys "$REPO/kured.asc" | fingerprint)
key=${KURED_SIGNING_KEY:-}
if [ -z "$key" ]; then
	# Beside REPO, not in it, because REPO is served.
	export GNUPGHOME=$REPO.gnupg
	agent=yes
	if [ ! -d "$GNUPGHOME" ]; then
		[ -z "$before" ] || fail "$REPO is signed by $before; KURED_SIGNING_KEY is not set"
		mkdir -m 0700 "$GNUPGHOME"
		gpg --batch --quiet --passphrase '' --quick-generate-key 'kured repository (throw-away key) <throw-away@example.invalid>' \
			rsa3072 sign never 2>"$work/log" || { cat "$work/log" >&2; fail "gpg cannot make a key in $GNUPGHOME"; }
	fi
	key=throw-away@example.invalid
fi
signed=$(gpg --batch --quiet --local-user "$key" --detach-sign --status-fd 1 --output /dev/null --yes <<<test) ||
	fail "gpg cannot sign with the key ${KURED_SIGNING_KEY:-in $GNUPGHOME}"
signer=$(awk '$2 == "SIG_CREATED" { print $NF }' <<<"$signed")
primary=$(gpg --batch --quiet --with-colons --list-keys "$signer" | fingerprint)
if [ -n "$before" ] && [ "$before" != "$primary" ]; then
	[ -n "${KURED_SIGNING_KEY:-}" ] || fail "$REPO is signed by $before; KURED_SIGNING_KEY is not set"
	echo "repo: was signed by $before: nodes need the new kured.asc before they see anything new" >&2
fi
gpg --batch --quiet --armor --export-options export-minimal --export "$primary" >"$work/kured.asc"
gpg --batch --quiet --dearmor <"$work/kured.asc" >"$work/kured.gpg"
rpmkeys --dbpath "$work/rpmdb" --import "$work/kured.asc"

sign() { # GPG-ARGUMENTS... OUTPUT INPUT: and see that those can verify it who have only the public key
	gpg --batch --quiet --yes --local-user "$signer!" --digest-algo SHA512 "${@:1:$#-2}" --output "${@: -2}"
}
verify() { # SIGNATURE [FILE]
	gpgv --keyring "$work/kured.gpg" "$@" 2>"$work/log" || { cat "$work/log" >&2; fail "kured.asc does not verify $1"; }
}
signed_rpm() { # FILE: by our key
	rpmkeys --dbpath "$work/rpmdb" -K "$1" 2>/dev/null | grep -q ': digests signatures OK$'
}
header() { # FILE: the digest of all of an rpm but for its signatures
	rpm -qp --nosignature --qf '%{SHA256HEADER}' "$1"
}

# What is published never changes: a cache or a node may have it.
pool=$REPO/apt/pool/main/k/kured
for file in "${debs[@]}"; do
	there=$pool/${file##*/}
	[ ! -e "$there" ] || cmp -s "$file" "$there" || fail "another ${file##*/} is in the repository already"
done
for file in "${rpms[@]}"; do
	there=$REPO/dnf/${file##*/}
	[ ! -e "$there" ] || [ "$(header "$file")" = "$(header "$there")" ] || fail "another ${file##*/} is in the repository already"
done

# The time of the index. It never goes back, because apt would take an older one for a replay and ignore it.
now=$SOURCE_DATE_EPOCH
if [ -e "$REPO/apt/dists/stable/Release" ]; then
	last=$(date -d "$(sed -n 's/^Date: //p' "$REPO/apt/dists/stable/Release")" +%s)
	[ "$last" -le "$now" ] || now=$last
fi

# dnf: the whole directory as it is to be. The rpms in it are copies that are signed; those in DIST stay as everybody builds
# them. What is there and signed stays as it is.
dnf=$work/dnf
mkdir -p "$REPO/dnf" "$dnf"
for file in "$REPO"/dnf/*.rpm; do ln "$file" "$dnf/"; done
for file in "${rpms[@]}"; do
	[ -e "$dnf/${file##*/}" ] || install -m 0644 "$file" "$dnf/"
done
for file in "$dnf"/*.rpm; do
	if ! signed_rpm "$file"; then
		install -m 0644 "$file" "$work/rpm"
		rpmsign --define "_gpg_name $signer!" --define '_gpg_digest_algo sha512' --define "__gpg $(command -v gpg)" \
			--resign "$work/rpm" >"$work/log" 2>&1 || { cat "$work/log" >&2; fail "rpmsign cannot sign ${file##*/}"; }
		signed_rpm "$work/rpm" || fail "kured.asc does not verify ${file##*/}"
		mv -f "$work/rpm" "$file"
	fi
	# It is in the index.
	touch -d "@$(rpm -qp --nosignature --qf '%{BUILDTIME}' "$file")" "$file"
done
signed_rpms=("$dnf"/*.rpm)
if [ ${#signed_rpms[@]} -gt 0 ]; then
	printf '%s\n' "${signed_rpms[@]##*/}" >"$work/list"
	createrepo_c --quiet --no-database --workers 1 --revision "$now" --set-timestamp-to-revision --pkglist "$work/list" "$dnf"
	sign --armor --detach-sign "$dnf/repodata/repomd.xml.asc" "$dnf/repodata/repomd.xml"
	verify "$dnf/repodata/repomd.xml.asc" "$dnf/repodata/repomd.xml"
fi

# apt.
mkdir -p "$pool"
for file in "${debs[@]}"; do
	if [ ! -e "$pool/${file##*/}" ]; then
		install -m 0644 "$file" "$work/deb"
		mv "$work/deb" "$pool/${file##*/}"
	fi
done
dists=$work/dists
mkdir "$dists"
arches=()
for arch in amd64 arm64 armhf; do
	files=("$pool"/kured_*_"$arch".deb)
	[ ${#files[@]} -gt 0 ] || continue
	arches+=("$arch")
	index=$dists/main/binary-$arch
	mkdir -p "$index"
	# For who has just read the Release of the time before: apt asks for the files in there, and apt-ftparchive keeps some.
	[ ! -d "$REPO/apt/dists/stable/main/binary-$arch/by-hash" ] || cp -a "$REPO/apt/dists/stable/main/binary-$arch/by-hash" "$index/"
	(cd "$REPO/apt" && apt-ftparchive --arch "$arch" --md5=no --sha1=no packages pool/main) >"$index/Packages"
	gzip -9nk "$index/Packages"
done
if [ ${#arches[@]} -gt 0 ]; then
	about=()
	for field in Origin=kured Label=kured Suite=stable Codename=stable Components=main "Architectures=${arches[*]}" \
		'Description=kured, the host-level reboot daemon for Kubernetes nodes'; do
		about+=(-o "APT::FTPArchive::Release::$field")
	done
	(cd "$dists" && apt-ftparchive --md5=no --sha1=no -o APT::FTPArchive::DoByHash=true "${about[@]}" release .) |
		sed "s/^Date: .*/Date: $(date -u -d "@$now" -R)/" >"$work/Release"
	mv "$work/Release" "$dists/Release"
	sign --clearsign "$dists/InRelease" "$dists/Release"
	sign --armor --detach-sign "$dists/Release.gpg" "$dists/Release"
	verify "$dists/InRelease"
	verify "$dists/Release.gpg" "$dists/Release"
fi

# The indexes last, when all that they name is there. dnf, too, may have read the repomd.xml of the time before.
replace() { # OLD NEW: directories; without NEW there is nothing to tell any more
	[ ! -e "$1" ] || mv "$1" "$work/old.${1##*/}"
	[ ! -e "$2" ] || mv "$2" "$1"
}
if [ -e "$REPO/dnf/repodata/repomd.xml" ]; then
	sed -n 's/.*href="\(repodata\/[^"]*\)".*/\1/p' "$REPO/dnf/repodata/repomd.xml" | while read -r named; do
		[ -e "$dnf/$named" ] || [ ! -d "$dnf/repodata" ] || cp -p "$REPO/dnf/$named" "$dnf/$named"
	done
fi
for file in "${signed_rpms[@]}"; do
	[ "$file" -ef "$REPO/dnf/${file##*/}" ] || mv -f "$file" "$REPO/dnf/"
done
mv "$work/kured.asc" "$REPO/kured.asc"
mkdir -p "$REPO/apt/dists"
replace "$REPO/apt/dists/stable" "$dists"
replace "$REPO/dnf/repodata" "$dnf/repodata"

if [ -n "${REPO_URL:-}" ]; then
	cat >"$REPO/kured.sources" <<END
# /etc/apt/sources.list.d/kured.sources
Types: deb
URIs: ${REPO_URL%/}/apt
Suites: stable
Components: main
Signed-By: /etc/apt/keyrings/kured.asc
END
	cat >"$REPO/kured.repo" <<END
# /etc/yum.repos.d/kured.repo
[kured]
name=kured
baseurl=${REPO_URL%/}/dnf
enabled=1
gpgcheck=1
repo_gpgcheck=1
gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-kured
END
fi

echo "$REPO: signed by $primary"
(cd "$REPO" && find apt/pool dnf -name 'kured_*' | sort)
[ -n "${KURED_SIGNING_KEY:-}" ] || cat >&2 <<END
repo: NOT FOR OTHERS: KURED_SIGNING_KEY is not set, so a throw-away key signed that was made for this repository and has no
repo: passphrase. It lies in $GNUPGHOME: keep that directory off every server.
END
