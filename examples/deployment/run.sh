#!/usr/bin/env bash
# A whole federation on this machine, over real TLS and with authenticated nodes: three hospitals
# with different tables, company X, a SuperLink, and a study plan without which nobody computes.
# Trains a model in a sealed chain and in the open, checks both against a simulation, and searches
# the SuperLink's view. docs/deployment.md explains each step.
#
#   examples/deployment/run.sh          everything, in a temporary folder that is deleted
#   ROUNDS=5 examples/deployment/run.sh
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
rounds=${ROUNDS:-2}
preparation=2 # sums before the first round, for mean and variance
hospitals=(st-anne st-john st-mary)
nodes=("${hospitals[@]}" company-x)
split="hospitals=${#hospitals[@]} rounds=$rounds optimizer=gd C=null"

source "$here/workplace.sh"

step "certificates: an authority, and the SuperLink's own"
mkdir tls "$FLWR_HOME" "${nodes[@]}"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -days 30 -subj /CN=example-ca \
	-addext keyUsage=critical,keyCertSign,cRLSign -keyout tls/ca.key -out tls/ca.crt 2>openssl.log
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -subj /CN=localhost \
	-keyout tls/superlink.key -out tls/superlink.csr 2>>openssl.log
openssl x509 -req -in tls/superlink.csr -CA tls/ca.crt -CAkey tls/ca.key -CAcreateserial -days 30 \
	-extfile "$here/superlink.ext" -out tls/superlink.crt 2>>openssl.log

step "SuperLink, with TLS and node authentication"
read -r control port node_ports < <(python "$here/free_ports.py" $((2 + ${#nodes[@]})))
start superlink flower-superlink --host 127.0.0.1 --port "$control" --database "$work/superlink.db" \
	--ssl-ca-certfile tls/ca.crt --ssl-certfile tls/superlink.crt --ssl-keyfile tls/superlink.key \
	--enable-supernode-auth
cat >"$FLWR_HOME/config.toml" <<END
[superlink]
default = "example"
[superlink.example]
address = "127.0.0.1:$control"
root-certificates = "$work/tls/ca.crt"
[superlink.stranger]
address = "127.0.0.1:$port"
root-certificates = "$work/tls/ca.crt"
END
for _ in {1..20}; do flwr ls >flwr.log 2>&1 && break || sleep 1; done
flwr ls >flwr.log

step "nginx: nodes' calls pass, and a stranger's runs do not"
if nginx=$(PATH=$PATH:/usr/sbin command -v nginx); then
	sed "s#/etc/fl-he#$work/tls#; s#listen 8000#listen 127.0.0.1:$port#; s#:9092#:$control#" \
		"$root/deploy/nginx.conf" >nginx.conf
	start nginx "$nginx" -e stderr -p "$work" -c "$work/nginx.conf"
	for _ in {1..20}; do (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break || sleep 1; done
	flwr run "$here/empty_app" stranger >stranger-run.log 2>&1 || true
	grep -o '403 Forbidden' stranger-run.log
else
	port=$control
	echo "nginx is not installed: nodes call the SuperLink itself, where everybody can start runs"
fi

record() { # NAME: all that the database holds from now on
	start "record-$1" python "$here/database_record.py" superlink.db "superlink.db-$1"
	recorder=$!
}
record sealed

step "identities: each node makes its own, and only public halves leave it"
for node in "${nodes[@]}"; do
	[ "$node" = company-x ] && role=key-holder || role=hospital
	fl-he enroll --name "$node" --role "$role" --out "$node" | tail -n 1
	ssh-keygen -q -t ecdsa -b 384 -N '' -C "$node" -f "$node/supernode"
	flwr supernode register "$node/supernode.pub" >>flwr.log
done

step "tables: the simulation's own shares"
python "$here/shares.py" "$split" "${hospitals[@]/%//patients.csv}"

step "study plan: what may be computed, drafted from a table of the columns and two made-up rows"
columns=$(head -n 1 st-anne/patients.csv)
commas=${columns//[^,]/}
printf '%s\n' "$columns" "${commas//,/1,}0" "${commas//,/2,}1" >columns.csv
# One session is of the sealed chain, and one of the open run.
fl-he plan $split data=csv data.path=columns.csv data.target=label data.positive=1 \
	--most-sessions 2 --out plan.json
planned="$split plan=$work/plan.json"

step "manifest: everybody gets a copy of both and compares the last line by telephone"
fl-he federation ./*/*.public.json --plan plan.json --out federation.json
for node in "${nodes[@]}"; do cp federation.json plan.json "$node"; done

step "SuperNodes"
connect=(--superlink "127.0.0.1:$port" --root-certificates tls/ca.crt)
supernode() { # NAME PORT SETTINGS
	local mine="name=\"$1\" federation=\"$work/$1/federation.json\" identity=\"$work/$1/identity.json\"
		plan=\"$work/$1/plan.json\""
	configured[$1]="$mine $3"
	start "$1" fl-he node "${connect[@]}" --auth-supernode-private-key "$1/supernode" \
		--port "$2" --node-config "${configured[$1]}"
	running+=($!)
}
declare -A configured
running=()
ssh-keygen -q -t ecdsa -b 384 -N '' -f stranger
# In the foreground, so that Ctrl-C reaches it.
timeout --foreground 60 fl-he node "${connect[@]}" --auth-supernode-private-key stranger \
	--port "$(python "$here/free_ports.py" 1)" >stranger.log 2>&1 || true
grep -q 'Failed to activate SuperNode' stranger.log
echo "a stranger is turned away"
read -ra node_ports <<<"$node_ports"
# reply-seconds=0, so that the last lines measure code and no wait: leave it out on your own nodes.
for i in "${!hospitals[@]}"; do
	folder=$work/${hospitals[i]}
	supernode "${hospitals[i]}" "${node_ports[i]}" "role=\"hospital\" data=\"$folder/patients.csv\" \
		reply-seconds=0 \
		target=\"label\" positive=\"1\" model-path=\"$folder/model.json\""
done
supernode company-x "${node_ports[-1]}" "role=\"key-holder\" min-contributors=${#hospitals[@]}"

step "a run that is refused before any training: it has another packing than company X"
flwr run "$root" --stream --run-config "overrides='$planned crypto.fraction_bits=20'" >refused.log 2>&1 || true
grep -o "the packing must be company X's" refused.log | head -n 1

step "training over a sealed chain: the coordinator sees envelopes only"
flwr run "$root" --stream --run-config \
	"overrides='$planned topology=chain sealed=true output_dir=$work/sealed'"
for hospital in "${hospitals[@]}"; do mv "$hospital/model.json" "$hospital/sealed-model.json"; done
kill -TERM "$recorder" && wait "$recorder"
cat superlink.db* >seen-sealed # the open run shows the coordinator the same totals and models
record open

step "the same training in the open: the coordinator sees totals"
flwr run "$root" --stream --run-config "overrides='$planned output_dir=$work/run'"
fl-he report run

step "two operators look at their nodes"
for node in company-x st-anne; do fl-he status --node-config "${configured[$node]}"; done

step "as many empty messages, to SuperNodes that run what the coordinator sends"
kill -TERM "${running[@]}" && wait "${running[@]}"
for i in "${!nodes[@]}"; do
	start "flower-${nodes[i]}" flower-supernode "${connect[@]}" --port "${node_ports[i]}" \
		--auth-supernode-private-key "${nodes[i]}/supernode"
done
all="rounds=$((rounds + preparation))"
flwr run "$here/empty_app" --stream --run-config "$all sealed=true" >>flwr.log
flwr run "$here/empty_app" --stream --run-config "$all" >>flwr.log

step "the same in a simulation"
fl-he run $split output_dir=simulation

step "checks"
kill -TERM "$recorder" && wait "$recorder"
python "$here/check.py" "$work" "$split" "${hospitals[@]}"
# A description, one message a round, and the end; in a sealed chain a meeting first.
open=$((${#nodes[@]} * (1 + preparation + rounds) + ${#hospitals[@]}))
sealed=$((open + ${#nodes[@]}))
flwr ls --format json | python "$here/overhead.py" "sealed chain:$sealed" "fold:$open"
step "all is well"
