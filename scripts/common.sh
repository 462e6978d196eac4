# Shared by the scripts: messages, the cache folder, the repository's root.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${RATSSAAL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ratssaal}

# Colour only on a terminal.
if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi

say() { printf '%s==> %s%s\n' "$bold" "$*" "$plain"; }

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}
