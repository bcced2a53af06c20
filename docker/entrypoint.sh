#!/bin/sh
# Starts streamscore. Java and Hadoop ask for the name of their user and do not start without one: a uid that is not in
# /etc/passwd (OpenShift, docker run --user) gets a name here, without a change of that file.
set -eu

if ! getent passwd "$(id -u)" > /dev/null; then
    NSS_WRAPPER_PASSWD=$(mktemp 2> /dev/null || mktemp -p .) || {
        echo "entrypoint.sh: uid $(id -u) can write neither to /tmp nor to $PWD: run it with the group 0 (--user $(id -u):0), or mount a volume that it can write to" >&2
        exit 6
    }
    { cat /etc/passwd; echo "uid$(id -u):x:$(id -u):$(id -g)::$PWD:/usr/sbin/nologin"; } > "$NSS_WRAPPER_PASSWD"
    export NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP=/etc/group LD_PRELOAD=libnss_wrapper.so HOME="$PWD"
fi
exec streamscore "$@"
