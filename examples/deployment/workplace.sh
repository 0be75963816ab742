# Sourced by the examples of this folder, which set `here`: a temporary folder to work in, and
# processes in the background that end with the script, however it ends.
root=$(cd "$here/../.." && pwd)

if ! command -v fl-he >/dev/null; then
	make -C "$root" venv
	PATH=$root/.venv/bin:$PATH
fi

work=$(mktemp -d /tmp/fl-he.XXXXXX) # short: Ray's sockets are in it, and their paths have a limit
echo "everything is in $work until the end"
export TMPDIR=$work
export FLWR_HOME=$work/flwr FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
# A SuperNode that runs received code starts a process for each message, which should find the app
# compiled.
unset PYTHONDONTWRITEBYTECODE
# Apps use the packages that are installed here, instead of a separate environment.
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1

start() { # NAME COMMAND...: in the background, its output in NAME.log
	local log=$work/$1.log
	shift
	"$@" >"$log" 2>&1 &
}
clean_up() {
	local status=$?
	trap - EXIT
	# Neither a second Ctrl-C nor a reader that is gone must leave half of it behind.
	trap '' INT TERM PIPE
	set +e
	if [ "$status" -ne 0 ]; then
		for log in "$work"/*.log; do
			[ -e "$log" ] && printf '\n-- %s\n' "${log##*/}" && tail -n 20 "$log"
		done >&2
	fi
	# nginx clears its environment, by which stop.py finds the others.
	[ -e "$work/fl-he-nginx.pid" ] && kill "$(<"$work/fl-he-nginx.pid")"
	python "$here/stop.py" "$FLWR_HOME"
	rm -rf "$work"
	exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
step() { printf '\n== %s (after %d s)\n' "$*" "$SECONDS"; }
cd "$work"
