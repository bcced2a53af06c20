#!/bin/bash
# Makes a stand-in for the official Python image from Debian's packages: `python.sh FOLDER TAG`, as root, with debootstrap.
# Debian and its security updates come from where this machine's apt has them. tools/containers.py calls it.
set -euo pipefail
ROOT=$1/python TAG=$2 SUITE=bookworm

sources=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2> /dev/null | grep -v '^ *#' | grep -oE '(https?|file)://[^] ]+' \
    | grep -i debian | sort -u || true)
debian=$(grep -v security <<< "$sources" | head -1 || true)
security=$(grep security <<< "$sources" | head -1 || true)
[ -n "$debian" ] || { echo "python.sh: apt has no Debian archive on this machine, which the stand-in is made from" >&2; exit 1; }

rm -rf "$ROOT"
debootstrap --variant=minbase --include=ca-certificates,netbase,tzdata,python3,python3-pip,python3-venv \
    "$SUITE" "$ROOT" "$debian" > "$1/debootstrap.log" || { tail -5 "$1/debootstrap.log" >&2; exit 1; }
{
    printf 'deb %s %s main\n' "$debian" "$SUITE" "$debian" "$SUITE-updates"
    if [ -n "$security" ]; then printf 'deb %s %s main\n' "$security" "$SUITE-security"; fi
} > "$ROOT/etc/apt/sources.list"
# An authority for certificates that this machine trusts beside the public ones: pip and Java need it in the build too.
if compgen -G '/usr/local/share/ca-certificates/*.crt' > /dev/null; then
    cp /usr/local/share/ca-certificates/*.crt "$ROOT/usr/local/share/ca-certificates/"
    chroot "$ROOT" update-ca-certificates > /dev/null
    printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' > "$ROOT/etc/pip.conf"
fi
# As in the official image: python in /usr/local, pip that may install, no compiled files, no manuals.
rm -f "$ROOT"/usr/lib/python3*/EXTERNALLY-MANAGED
for name in python python3; do ln -sf /usr/bin/python3 "$ROOT/usr/local/bin/$name"; done
for name in pip pip3; do ln -sf /usr/bin/pip3 "$ROOT/usr/local/bin/$name"; done
find "$ROOT"/usr/lib/python3* -name '*.pyc' -delete
rm -rf "$ROOT"/usr/share/man/* "$ROOT"/usr/share/locale/* "$ROOT"/var/lib/apt/lists/* "$ROOT"/var/cache/apt/archives/*.deb
tar -C "$ROOT" --numeric-owner --exclude='./proc/*' --exclude='./sys/*' --exclude='./dev/*' -c . | docker import \
    --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' --change 'ENV LANG=C.UTF-8' \
    --change 'CMD ["python3"]' - "$TAG"
rm -rf "$ROOT"
