#!/usr/bin/env bash
# CaPC over deployed nodes on this machine, with keys of 2048 bits: st-anne has 20 cases without
# labels, three hospitals with models of three kinds label them, one of them a network in a file
# without pickle, company X is the guardian.
# docs/capc.md explains each step; run.sh in this folder shows TLS and node authentication, which
# are left out here.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
querying=st-anne
answering=(st-john st-luke st-mary)
nodes=("$querying" "${answering[@]}" company-x)

source "$here/workplace.sh"
mkdir "$FLWR_HOME" "${nodes[@]}"

step "keys: of company X and of who queries; an identity for everybody"
for owner in company-x/capc "$querying"; do fl-he keygen --out "$owner" >keygen.log; done
for node in "${nodes[@]}"; do
	[ "$node" = company-x ] && role=key-holder || role=hospital
	fl-he enroll --name "$node" --role "$role" --out "$node" | tail -n 1
done
fl-he federation ./*/*.public.json --out federation.json | tail -n 1

step "models, cases and the agreement: everybody gets a copy and compares the last line"
python "$here/capc_files.py" make . "$querying" "${answering[@]}"
fl-he agree terms.json --keys company-x=company-x/capc --keys "$querying=$querying" --out capc.json

step "SuperLink and SuperNodes"
read -r port node_ports < <(python "$here/free_ports.py" $((1 + ${#nodes[@]})))
start superlink flower-superlink --insecure --host 127.0.0.1 --port "$port"
cat >"$FLWR_HOME/config.toml" <<END
[superlink]
default = "example"
[superlink.example]
address = "127.0.0.1:$port"
insecure = true
END
for _ in {1..20}; do flwr ls >flwr.log 2>&1 && break || sleep 1; done
read -ra node_ports <<<"$node_ports"
for i in "${!nodes[@]}"; do
	node=${nodes[i]} own=$work/${nodes[i]}
	case $node in
	company-x) settings="role=\"key-holder\" capc-private-key=\"$own/capc/private-key.json\" capc-dgk-key=\"$own/capc/dgk-private-key.json\"" ;;
	"$querying") settings="role=\"hospital\" capc-private-key=\"$own/private-key.json\" capc-dgk-key=\"$own/dgk-private-key.json\" capc-cases=\"$own/cases.csv\" capc-labels=\"$own/labels.csv\"" ;;
	*)
		model=("$own"/model.*)
		settings="role=\"hospital\" capc-model=\"${model[0]}\" capc-ledger=\"$own/voting.jsonl\""
		;;
	esac
	start "$node" fl-he node --insecure --superlink "127.0.0.1:$port" \
		--port "${node_ports[i]}" --node-config "name=\"$node\" identity=\"$own/identity.json\" \
		federation=\"$work/federation.json\" capc=\"$work/capc.json\" $settings"
done

step "20 cases, labelled by three parties"
flwr run "$root" --stream --run-config "overrides='experiment=capc_breast_cancer \
hospitals=4 topology=chain output_dir=$work/run'"
fl-he report run
tail -n 1 "$work/${answering[0]}/voting.jsonl"

step "checks"
python "$here/capc_files.py" check . "$querying" "${answering[@]}"
step "all is well"
