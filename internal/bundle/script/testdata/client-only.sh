#!/bin/sh
# Makes the bootstrap secrets of an OpenShell gateway that are missing: those of
# generation 1, for StatefulSet openshell in namespace openshell.
#
# It needs openssl and kubectl, and to be allowed to get the StatefulSet and to
# get and create secrets. Where one of two secrets that are only issued together
# is missing, the other one is kept in a backup and replaced: then it must also
# be allowed to patch it and the StatefulSet.
#
# Exit code: 0 nothing is missing now, 1 refused or failed, 4 the cluster could
# not be asked.
set -eu
umask 077
LC_ALL=C
export LC_ALL

namespace='openshell'
statefulset='openshell'
authority='openshell-server-client-ca'
client='openshell-client-tls'

# Blocks are switched on by what the cluster turns out to lack.
need_client_bundle=0

work=''
missing=''
written=''
unrolled=''

say() { printf '%s\n' "$1"; }

# stop SENTENCE [FILE [CODE]]: says why, and what a program had to say about it.
stop() {
	printf 'creel: %s\n' "$1" >&2
	# kubectl's log of each attempt says no more than its last line.
	if [ -n "${2-}" ] && [ -s "$2" ]; then sed '/^E[0-9]\{4\} /d; s/^/  /' "$2" >&2; fi
	if [ -n "$written" ]; then printf 'creel: written before that:%s\n' "$written" >&2; fi
	exit "${3-1}"
}

# unknown OPERATION: nothing is made over what could not be read.
unknown() { stop "$1: the cluster could not be asked, nothing was changed" "$work/error" 4; }

clean() {
	trap '' HUP INT QUIT PIPE TERM
	if [ -n "$work" ]; then rm -rf "$work"; fi
}

kube() { kubectl --namespace="$namespace" --request-timeout=10s "$@"; }

# ssl ARGUMENT...: openssl among the temporary files, quiet unless it fails.
ssl() {
	(cd "$work" && exec openssl "$@") >"$work/output" 2>&1 || stop "openssl $1" "$work/output"
}

# Only the gateway of this script is repaired, and only once it is there: before
# that, whoever is installing it would be raced.
find_gateway() {
	kube get statefulset "$statefulset" --ignore-not-found \
		-o 'jsonpath={.metadata.name}|{.metadata.deletionTimestamp}|{.metadata.annotations.creel/restart-pending}{"\n"}{.spec.template.spec}{"\n"}' \
		>"$work/gateway" 2>"$work/error" || unknown "look for StatefulSet $statefulset in namespace $namespace"
	if [ ! -s "$work/gateway" ]; then
		found=$(kube get namespace "$namespace" --ignore-not-found -o name 2>"$work/error") || found='not asked'
		[ -n "$found" ] || stop "there is no namespace $namespace, nothing was changed"
		stop "there is no StatefulSet $statefulset in namespace $namespace, nothing was changed"
	fi
	IFS='|' read -r found deleted pending <"$work/gateway"
	[ "$found" = "$statefulset" ] || stop "look for StatefulSet $statefulset: the answer makes no sense" "$work/gateway" 4
	[ -z "$deleted" ] || stop "StatefulSet $statefulset in namespace $namespace is being deleted, nothing was changed"
	sed 1d "$work/gateway" >"$work/template"
	printf '%s\n' "$pending" | tr -d '{}' | tr ',' '\n' | sed -n '/^"[-a-z0-9.]*":"[-A-Za-z0-9/]*"$/p' >"$work/pending"
	check_generation
}

# mounts TEXT: the pod template speaks of it.
mounts() { grep -qF -e "$1" "$work/template"; }

mounts_sandbox_key() {
	for text in -jwt-keys signing.pem; do
		if mounts "$text"; then return 0; fi
	done
	return 1
}

# A handshake, or a CA by itself without a key for sandbox tokens, is generation 1;
# a gateway that names no secret at all finds those of generation 1, too.
check_generation() {
	if mounts 'openshell-ssh-handshake'; then return; fi
	if mounts 'openshell-server-client-ca' && ! mounts_sandbox_key; then return; fi
	if mounts 'openshell-server-tls' || mounts 'openshell-server-client-ca' || mounts 'openshell-client-tls' || mounts_sandbox_key; then
		stop "StatefulSet $statefulset uses secrets of generation 2 and this script makes those of generation 1, nothing was changed"
	fi
}

# present NAME: the secret was there when the cluster was asked.
present() { grep -qxF -e "secret/$1" "$work/present"; }

# lacks NAME: it is missing, which is written down.
lacks() {
	if present "$1"; then
		say "$1 exists and is left as it is."
		return 1
	fi
	missing="${missing:+$missing, }$1"
}

find_missing() {
	kube get secret "$authority" "$client" --ignore-not-found -o name \
		>"$work/present" 2>"$work/error" || unknown "look for secrets in namespace $namespace"
	if lacks "$client"; then need_client_bundle=1; fi
	if [ "$need_client_bundle" = 1 ] && ! present "$authority"; then missing="$missing, $authority"; fi
}

type_of() {
	case $1 in
	"$authority") echo Opaque ;;
	"$client") echo Opaque ;;
	esac
}

# prepare: what openssl needs to issue certificates that begin in the past.
prepare() {
	mkdir "$work/certificates" "$work/ca"
	: >"$work/index"
	cat >"$work/openssl.cnf" <<'EOT'
[ca]
default_ca = issue
[issue]
database = index
new_certs_dir = certificates
serial = serial
unique_subject = no
default_md = sha256
policy = subject
[subject]
organizationName = optional
organizationalUnitName = optional
commonName = supplied
[req]
distinguished_name = nothing
[nothing]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = @names
[names]
DNS.0 = openshell
DNS.1 = openshell.openshell
DNS.2 = openshell.openshell.svc
DNS.3 = openshell.openshell.svc.cluster.local
DNS.4 = localhost
IP.5 = 127.0.0.1
EOT
	# A zone that lies west of Greenwich by minutes: POSIX date knows no other way
	# to say "some minutes ago". A verifier's clock may be behind this one.
	begin=$(TZ=AGO0:10 date +%Y%m%d%H%M%S) || stop "ask for the date"
}

# after DAYS: the moment that many days after begin, in the Gregorian calendar. Days
# are counted from 1 March 4801 BC, so that a leap day is the last of its year.
after() {
	time=${begin#????????}
	date=${begin%??????}
	day=${date#??????}
	date=${date%??}
	month=${date#????}
	year=${date%??}
	month=${month#0}
	day=${day#0}
	a=$(((14 - month) / 12))
	y=$((year + 4800 - a))
	m=$((month + 12 * a - 3))
	a=$((day + (153 * m + 2) / 5 + 365 * y + y / 4 - y / 100 + y / 400 - 1 + $1))
	b=$(((4 * a + 3) / 146097))
	c=$((a - 146097 * b / 4))
	d=$(((4 * c + 3) / 1461))
	e=$((c - 1461 * d / 4))
	m=$(((5 * e + 2) / 153))
	printf '%04d%02d%02d%sZ' $((100 * b + d - 4800 + m / 10)) $((m + 3 - 12 * (m / 10))) $((e - (153 * m + 2) / 5 + 1)) "$time"
}

# certify KIND SUBJECT DAYS KEY CERTIFICATE [own]: a new key and its certificate,
# issued by the CA or, own, by itself.
certify() {
	ssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$4"
	ssl req -new -sha256 -config openssl.cnf -key "$4" -subj "$2" -out request
	ssl rand -hex -out serial 16
	end=$(after "$3")
	if [ -n "${6-}" ]; then
		set -- "$1" "$5" -selfsign -keyfile "$4"
	else
		set -- "$1" "$5" -cert ca/ca.crt -keyfile ca/ca.key
	fi
	kind=$1
	certificate=$2
	shift 2
	ssl ca -batch -notext -preserveDN -config openssl.cnf -in request -out "$certificate" \
		-startdate "${begin}Z" -enddate "$end" -extensions "$kind" "$@"
}

# check KEY CERTIFICATE CA PURPOSE: the key is the certificate's, and the CA
# issued it for this.
check() {
	ssl pkey -in "$1" -pubout -out of-key
	ssl x509 -in "$2" -noout -pubkey -out of-certificate
	cmp -s "$work/of-key" "$work/of-certificate" || stop "openssl made a key and a certificate that do not fit"
	ssl verify -CAfile "$3" -purpose "$4" "$2"
	grep -q ': OK$' "$work/output" || stop "openssl verify" "$work/output"
}

# The CA's key is kept nowhere, so all that it issues is issued at once.
issue_client_bundle() {
	certify authority '/CN=openshell-client-ca' 3650 ca/ca.key ca/ca.crt own
	mkdir "$work/new/$authority"
	cp "$work/ca/ca.crt" "$work/new/$authority/ca.crt"
	issue_leaf "$client" client '/CN=openshell-client' 3650
	rm "$work/ca/ca.key"
}

# issue_leaf NAME KIND SUBJECT DAYS
issue_leaf() {
	mkdir "$work/new/$1"
	certify "$2" "$3" "$4" "new/$1/tls.key" "new/$1/tls.crt"
	cp "$work/ca/ca.crt" "$work/new/$1/ca.crt"
	check "new/$1/tls.key" "new/$1/tls.crt" ca/ca.crt "ssl$2"
}

labels() {
	cat <<'EOT'
  labels:
    app.kubernetes.io/managed-by: creel
    app.kubernetes.io/instance: "creel"
EOT
}

# manifest NAME [VERSION]: a secret with what was issued. Values go from file to
# file and are in no argument of any program.
manifest() {
	printf 'apiVersion: v1\nkind: Secret\ntype: %s\nmetadata:\n  name: "%s"\n' "$(type_of "$1")" "$1"
	if [ -n "${2-}" ]; then printf '  resourceVersion: "%s"\n' "$2"; fi
	labels
	printf 'data:\n'
	for file in "$work/new/$1"/*; do
		printf '  "%s": "' "${file##*/}"
		openssl base64 -A -in "$file" || return 1
		printf '"\n'
	done
}

# create NAME [OTHER]: an absent member, which fits OTHER that was just written.
# One that somebody else has made by now is not overwritten.
create() {
	manifest "$1" >"$work/manifest" || stop "write down secret $1"
	if kube create --validate=false -f - <"$work/manifest" >"$work/output" 2>"$work/error"; then
		written="$written $1"
		return
	fi
	grep -q AlreadyExists "$work/error" || stop "create secret $1" "$work/error"
	if [ -n "${2-}" ]; then
		stop "secret $1 was made by somebody else meanwhile and not overwritten; it does not fit $2: delete one of them and run this script again"
	fi
	stop "secret $1 was made by somebody else meanwhile and not overwritten: run this script again"
}

# find_unrolled: the secrets that a run before this one replaced without having
# told the gateway, because it was killed or refused in between. It has noted
# which versions it was about to replace.
find_unrolled() {
	[ -s "$work/pending" ] || return 0
	# shellcheck disable=SC2016 # kubectl's variables
	kube get secret "$authority" "$client" --ignore-not-found -o 'go-template={{define "secret"}}"{{.metadata.name}}":"{{.metadata.uid}}/{{.metadata.resourceVersion}}"{{"\n"}}{{end}}{{if .items}}{{range .items}}{{template "secret" .}}{{end}}{{else}}{{template "secret" .}}{{end}}' \
		>"$work/versions" 2>"$work/error" || unknown "look for versions of secrets in namespace $namespace"
	for name in "$authority" "$client"; do
		noted=$(grep -F -e "\"$name\":" "$work/pending") || continue
		if ! grep -qxF -e "$noted" "$work/versions"; then unrolled="$unrolled $name"; fi
		# What is left are secrets that this script has nothing to do with.
		grep -vF -e "\"$name\":" "$work/pending" >"$work/others" || :
		mv "$work/others" "$work/pending"
	done
}

# write_pair NAME NAME: members that only fit each other. What exists goes first
# and what is absent last, so that an interruption leaves one absent, which the
# next run sees, and not two that do not fit.
write_pair() {
	for name in "$1" "$2"; do
		if present "$name"; then replace "$name"; fi
	done
	other=${written# }
	for name in "$1" "$2"; do
		if ! present "$name"; then
			create "$name" "$other"
			other=$name
		fi
	done
}

# replace NAME: keeps what is stored in a backup, then puts what was issued in
# its place unless somebody has changed it since. It is tried first, and noted
# that the gateway has to start again.
replace() {
	# shellcheck disable=SC2016 # kubectl's variables
	kube get secret "$1" -o 'go-template={{.metadata.resourceVersion}} {{.metadata.uid}} {{.type}} {{if .immutable}}immutable{{end}}{{"\n"}}{{range $k, $v := .data}}  {{printf "%q: %q" $k $v}}{{"\n"}}{{end}}' \
		>"$work/old" 2>"$work/error" || unknown "read secret $1"
	read -r version uid type immutable <"$work/old"
	sed 1d "$work/old" >"$work/old-data"
	how=swap
	# These no API server lets anybody change.
	if [ "$type" != "$(type_of "$1")" ] || [ -n "$immutable" ]; then how=remake; fi
	"$how" "$1" "$version" server || stop "secret $1 may not be replaced, nothing was changed" "$work/error"
	promise "$1" "$uid/$version" || stop "the gateway may not be told to start again, so secret $1 is not replaced, nothing was changed" "$work/error"
	keep "$1" "$type"
	"$how" "$1" "$version" none || stop "replace secret $1, which is kept as $backup" "$work/error"
	case " $unrolled " in *" $1 "*) ;; *) unrolled="$unrolled $1" ;; esac
	say "$1 is replaced because it only fits what is missing; the old one is kept as $backup."
}

# swap NAME VERSION DRY-RUN: other values in an object that stays.
swap() {
	{
		manifest "$1" "$2" || return 1
		sed -n 's/^  "\([^"]*\)": .*/\1/p' "$work/old-data" | while read -r key; do
			if [ ! -e "$work/new/$1/$key" ]; then printf '  "%s": null\n' "$key"; fi
		done
	} >"$work/manifest"
	kube patch secret "$1" --type=merge --patch-file="$work/manifest" --dry-run="$3" \
		>"$work/output" 2>"$work/error" || return 1
	if [ "$3" = none ]; then written="$written $1"; fi
}

# remake NAME VERSION DRY-RUN: another object of the same name.
remake() {
	dry=''
	if [ "$3" != none ]; then dry=', "dryRun": ["All"]'; fi
	printf '{"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"resourceVersion": "%s"}%s}\n' \
		"$2" "$dry" >"$work/options"
	kube delete --raw "/api/v1/namespaces/$namespace/secrets/$1" -f - <"$work/options" \
		>"$work/output" 2>"$work/error" || return 1
	if [ "$3" = none ]; then create "$1"; fi
}

# keep NAME TYPE: the stored values under the next name that is free, without a
# type that a controller might act on.
keep() {
	number=1
	while :; do
		backup="$1-creel-backup-$number"
		{
			printf 'apiVersion: v1\nkind: Secret\ntype: Opaque\nmetadata:\n  name: "%s"\n' "$backup"
			labels
			printf '  annotations:\n    creel/backup-of: "%s"\n    creel/backup-type: "%s"\ndata:\n' "$1" "$2"
			cat "$work/old-data"
		} >"$work/manifest"
		if kube create --validate=false -f - <"$work/manifest" >"$work/output" 2>"$work/error"; then return; fi
		grep -q AlreadyExists "$work/error" || stop "keep secret $1 as $backup" "$work/error"
		[ "$number" -lt 99 ] || stop "keep secret $1: it has too many backups"
		number=$((number + 1))
	done
}

# promise NAME VERSION: notes on the StatefulSet what is about to be replaced.
# Without that a run that is killed before it could roll would leave a gateway that
# goes on with the old values for ever. For what was replaced without a roll before,
# no version that can be there now is right.
promise() {
	{
		cat "$work/pending"
		for name in $unrolled; do printf '"%s":"before"\n' "$name"; done
		case " $unrolled " in *" $1 "*) ;; *) printf '"%s":"%s"\n' "$1" "$2" ;; esac
	} >"$work/notes"
	notes=$(sed 's/"/\\"/g' "$work/notes" | tr '\n' ',')
	kube patch statefulset "$statefulset" --type=merge \
		-p '{"metadata":{"annotations":{"creel/restart-pending":"{'"${notes%,}"'}"}}}' >"$work/output" 2>"$work/error"
}

# roll: a gateway that runs with the old values must start again. The same patch
# takes back the promise that it will: both happen or neither.
roll() {
	now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
	names=$(printf '%s' "${unrolled# }" | tr ' ' ',')
	kube patch statefulset "$statefulset" --type=merge \
		-p '{"metadata":{"annotations":{"creel/restart-pending":null}},"spec":{"template":{"metadata":{"annotations":{"creel/restarted-at":"'"$now"'","creel/restarted-for":"'"$names"'"}}}}}' \
		>"$work/output" 2>"$work/error" ||
		stop "the gateway could not be told to start again, do: kubectl -n $namespace rollout restart statefulset/$statefulset" "$work/error"
}

# What openssl found good before it was written must be what the cluster returns.
verify() {
	# shellcheck disable=SC2016,SC2086 # kubectl's variables; names, which hold nothing that a shell would expand
	kube get secret $written -o 'go-template={{define "secret"}}{{.metadata.name}} {{.type}}{{"\n"}}{{range $k, $v := .data}}{{$k}}={{base64decode $v}}{{"\n"}}{{end}}{{end}}{{if .items}}{{range .items}}{{template "secret" .}}{{end}}{{else}}{{template "secret" .}}{{end}}' \
		>"$work/stored" 2>"$work/error" || stop "read back what was written" "$work/error" 4
	for name in $written; do
		printf '%s %s\n' "$name" "$(type_of "$name")"
		for file in "$work/new/$name"/*; do
			printf '%s=' "${file##*/}"
			cat "$file"
			printf '\n'
		done
	done >"$work/expected"
	cmp -s "$work/expected" "$work/stored" || stop "the cluster does not hold what was written"
}

main() {
	for tool in kubectl openssl mktemp cmp; do
		command -v "$tool" >/dev/null 2>&1 || stop "$tool is needed and not installed, nothing was changed"
	done
	trap clean EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 131' QUIT
	trap 'exit 141' PIPE
	trap 'exit 143' TERM
	work=$(mktemp -d "${TMPDIR:-/tmp}/creel-secrets.XXXXXX") || stop "make a directory for temporary files"

	find_gateway
	find_missing
	find_unrolled
	if [ -z "$missing" ] && [ -n "$unrolled" ]; then
		roll
		say "OpenShell bootstrap secrets: none is missing. The gateway was not started again since one was replaced, and is now:$unrolled."
		return
	fi
	if [ -z "$missing" ]; then
		say "OpenShell bootstrap secrets: none is missing, nothing was changed."
		return
	fi
	say "OpenShell bootstrap secrets missing: $missing. Repairing..."

	mkdir "$work/new"
	prepare
	if [ "$need_client_bundle" = 1 ]; then issue_client_bundle; fi
	if [ "$need_client_bundle" = 1 ]; then write_pair "$authority" "$client"; fi
	if [ -n "$unrolled" ]; then roll; fi
	verify
	say "✓ OpenShell bootstrap secrets created"
	if [ "$need_client_bundle" = 1 ]; then
		say "The client certificate is new: OpenShell clients need it to reach the gateway."
	fi
}

# Nothing runs before all of this file has been read, and no program waits for
# what somebody types.
main </dev/null
