# Runs one ```sh block as if typed into the shell that ran those before it: block.sh BLOCK STATE FAILED
#   STATE   takes over variables and working directory from block to block
#   FAILED  gets the line of BLOCK that failed
block=$1 state=$2 failed=$3
set -e -o pipefail
if [ -e "$state" ]; then . "$state"; fi
trap 'echo "$LINENO" >"$failed"' ERR
trap '{ export -p; printf "cd %q\n" "$PWD"; } >"$state"' EXIT
set --
. "$block"
