#!/bin/bash
# As the official image's: the password of the user elastic, and each variable with a dot as a setting.
set -euo pipefail
if [ "$1" != eswrapper ]; then exec "$@"; fi
if [ -n "${ELASTIC_PASSWORD:-}" ] && [ ! -f config/elasticsearch.keystore ]; then
    elasticsearch-keystore create
    echo "$ELASTIC_PASSWORD" | elasticsearch-keystore add -x bootstrap.password
fi
settings=()
while IFS='=' read -r -d '' name value; do
    if [[ $name =~ ^[-a-z0-9_]+(\.[-a-z0-9_]+)+$ ]]; then settings+=("-E$name=$value"); fi
done < <(env -0)
exec elasticsearch "${settings[@]}"
