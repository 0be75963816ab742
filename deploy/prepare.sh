#!/usr/bin/env bash
# Make the files of deploy/compose.yaml for a trial on one host, with example tables:
#   deploy/prepare.sh [FOLDER]      deploy/study if not given; it must not exist yet
# In a real study each party makes its own keys, on its own machine: docs/operations.md.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
study=${1:-$here/study}
hospitals=(st-anne st-john st-mary)
split="hospitals=${#hospitals[@]}"
umask 077
mkdir "$study"
cd "$study"

echo "authority, and the SuperLink's certificate"
mkdir -p coordinator/etc/supernodes coordinator/lib/flwr
curve=(-newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes)
openssl req -x509 "${curve[@]}" -days 30 -subj /CN=trial-ca -keyout ca.key -out ca.crt \
	-addext keyUsage=critical,keyCertSign,cRLSign 2>openssl.log
openssl req "${curve[@]}" -subj /CN=coordinator \
	-keyout coordinator/etc/superlink.key -out superlink.csr 2>>openssl.log
sed 's/DNS:localhost/DNS:coordinator, &/' "$here/../examples/deployment/superlink.ext" >superlink.ext
openssl x509 -req -in superlink.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 \
	-extfile superlink.ext -out coordinator/etc/superlink.crt 2>>openssl.log
cat >coordinator/lib/flwr/config.toml <<END
[superlink]
default = "trial"
[superlink.trial]
address = "127.0.0.1:9092"
root-certificates = "/etc/fl-he/ca.crt"
END

echo "identities"
for node in "${hospitals[@]}" company-x; do
	[ "$node" = company-x ] && role=key-holder || role=hospital
	mkdir -p "$node/etc" "$node/lib" "$node/srv"
	fl-he enroll --name "$node" --role "$role" --out "$node/etc" | tail -n 1
	ssh-keygen -q -t ecdsa -b 384 -N '' -C "$node" -f "$node/etc/supernode"
	cp "$node/etc/supernode.pub" "coordinator/etc/supernodes/$node.pub"
	[ "$role" = hospital ] && config=hospital.toml || config=company-x.toml
	grep -v "^sealed" "$here/$config" >"$node/etc/node.toml" # the try-out is an open run
done

echo "tables, study plan, manifest"
python "$here/../examples/deployment/shares.py" "$split" "${hospitals[@]/%//srv/patients.csv}"
columns=$(head -n 1 st-anne/srv/patients.csv)
commas=${columns//[^,]/}
printf '%s\n' "$columns" "${commas//,/1,}0" "${commas//,/2,}1" >columns.csv
fl-he plan $split data=csv data.path=columns.csv data.target=label data.positive=1 --out plan.json
fl-he federation ./*/etc/*.public.json --plan plan.json --out federation.json
for node in "${hospitals[@]}" company-x coordinator; do
	cp ca.crt plan.json federation.json "$node/etc"
done
