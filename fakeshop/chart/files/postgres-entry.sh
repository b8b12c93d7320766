#!/bin/sh
# Starts PostgreSQL, after making a database in an empty volume. With the word
# "ready" it tells whether PostgreSQL takes connections.
#
# Roles: postgres (superuser, only through the local socket), shop_app (owns
# everything, cannot log in), and the login role of the secret, a member of it.
set -eu

if [ "${1:-}" = ready ]; then
    exec "$PG_BIN/pg_isready" --quiet --host="$PG_RUN" --timeout=3
fi

# initialise makes the database beside its place and moves it there when it is
# complete, so that a pod killed meanwhile leaves nothing half done.
initialise() {
    new="$PG_DATA.new"
    user=$(cat "$PG_SECRETS/db-user")
    rm -rf "$new"
    "$PG_BIN/initdb" --pgdata="$new" --username=postgres --encoding=UTF8 --locale=C.UTF-8 \
        --auth-local=peer --auth-host=scram-sha-256 --data-checksums
    cat >"$new/pg_hba.conf" <<EOF
local all postgres      peer
local all all           scram-sha-256
host  all postgres all  reject
host  all all      all  scram-sha-256
EOF
    "$PG_BIN/pg_ctl" start --pgdata="$new" --wait --silent \
        --options="-c listen_addresses= -c unix_socket_directories=$PG_RUN"
    # The password goes through a variable of psql, never through an argument.
    "$PG_BIN/psql" --host="$PG_RUN" --username=postgres --no-psqlrc --quiet \
        --set=ON_ERROR_STOP=1 --set=user="$user" <<'EOF'
SET log_statement = 'none';
SET log_min_error_statement = 'panic';
\set password `cat "$PG_SECRETS/db-password"`
CREATE ROLE shop_app NOLOGIN;
CREATE ROLE :"user" LOGIN PASSWORD :'password' IN ROLE shop_app;
CREATE DATABASE shop OWNER shop_app;
REVOKE ALL ON DATABASE shop FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE shop TO shop_app;
EOF
    "$PG_BIN/pg_ctl" stop --pgdata="$new" --mode=fast --wait --silent
    mv "$new" "$PG_DATA"
}

umask 0077
export PG_SECRETS
if [ ! -s "$PG_DATA/PG_VERSION" ]; then
    if [ ! -s "$PG_SECRETS/db-user" ] || [ ! -s "$PG_SECRETS/db-password" ]; then
        echo "the volume is empty and there is no secret with db-user and db-password" >&2
        exit 1
    fi
    initialise
fi

"$PG_BIN/postgres" -D "$PG_DATA" \
    -c listen_addresses="${PG_LISTEN:-*}" -c unix_socket_directories="$PG_RUN" \
    -c max_connections="$PG_MAX_CONNECTIONS" -c shared_buffers=64MB -c max_wal_size=512MB \
    -c password_encryption=scram-sha-256 -c jit=off -c max_parallel_workers_per_gather=0 \
    -c max_worker_processes=4 -c autovacuum_naptime=30s -c log_line_prefix='%m [%p] %q%u@%d ' &
server=$!
# SIGTERM would wait for the clients to go; SIGINT lets them go at once.
trap 'kill -INT "$server"' TERM INT
code=0
while kill -0 "$server" 2>/dev/null; do
    wait "$server" && code=0 || code=$?
done
exit "$code"
