#!/bin/sh
# Starts PostgreSQL: the primary (PG_ROLE=primary, the default), after making a
# database in an empty volume, or a streaming replica of $PG_PRIMARY
# (PG_ROLE=replica), after copying it. With the word "ready" it tells whether
# PostgreSQL takes connections and, of a replica, whether it has followed its
# primary since it started.
#
# Roles: postgres (superuser, only through the local socket), shop_app (owns
# everything, cannot log in), the login role of the secret, a member of it, and
# replicator, which a replica logs in with.
set -eu

if [ "${1:-}" = ready ]; then
    if [ "${PG_ROLE:-primary}" = replica ] && [ ! -e "$PG_RUN/streamed" ]; then
        exit 1
    fi
    exec "$PG_BIN/pg_isready" --quiet --host="$PG_RUN" --timeout=3
fi

# local_sql runs psql as the superuser through the local socket.
local_sql() {
    "$PG_BIN/psql" --host="$PG_RUN" --username=postgres --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 "$@"
}

# admit says who may connect how.
admit() {
    cat >"$1/pg_hba.conf" <<END
local all         postgres       peer
local all         all            scram-sha-256
host  replication replicator all scram-sha-256
host  all         postgres   all reject
host  all         replicator all reject
host  all         all        all scram-sha-256
END
}

# initialise makes the database beside its place and moves it there when it is
# complete, so that a pod killed meanwhile leaves nothing half done.
initialise() {
    new="$PG_DATA.new"
    user=$(cat "$PG_SECRETS/db-user")
    rm -rf "$new"
    "$PG_BIN/initdb" --pgdata="$new" --username=postgres --encoding=UTF8 --locale=C.UTF-8 \
        --auth-local=peer --auth-host=scram-sha-256 --data-checksums
    admit "$new"
    "$PG_BIN/pg_ctl" start --pgdata="$new" --wait --silent \
        --options="-c listen_addresses= -c unix_socket_directories=$PG_RUN"
    # The password goes through a variable of psql, never through an argument.
    local_sql --set=user="$user" <<'END'
SET log_statement = 'none';
SET log_min_error_statement = 'panic';
\set password `cat "$PG_SECRETS/db-password"`
CREATE ROLE shop_app NOLOGIN;
CREATE ROLE :"user" LOGIN PASSWORD :'password' IN ROLE shop_app;
CREATE DATABASE shop OWNER shop_app;
REVOKE ALL ON DATABASE shop FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE shop TO shop_app;
END
    "$PG_BIN/pg_ctl" stop --pgdata="$new" --mode=fast --wait --silent
    mv "$new" "$PG_DATA"
}

# let_replicas_in makes the login that replicas use, once the primary is up.
let_replicas_in() {
    until "$PG_BIN/pg_isready" --quiet --host="$PG_RUN" --timeout=3; do sleep 1; done
    local_sql --dbname=postgres <<'END'
SET log_statement = 'none';
SET log_min_error_statement = 'panic';
\set password `cat "$PG_REPLICATION/password"`
SELECT 'CREATE ROLE replicator LOGIN REPLICATION' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'replicator') \gexec
ALTER ROLE replicator PASSWORD :'password';
END
}

# ask_primary speaks the replication protocol.
ask_primary() {
    PGPASSWORD=$(cat "$PG_REPLICATION/password") "$PG_BIN/psql" --no-psqlrc --quiet --tuples-only --no-align --command="$1" \
        "host=$PG_PRIMARY port=$PG_PRIMARY_PORT user=replicator dbname=postgres replication=true connect_timeout=3"
}

# same_system tells whether what is here is a copy of the primary as it is now.
# When the primary cannot be asked, it is taken for one.
same_system() {
    there=$(ask_primary IDENTIFY_SYSTEM) || return 0
    here=$("$PG_BIN/pg_controldata" "$PG_DATA" | sed -n 's/^Database system identifier: *//p')
    [ "${there%%|*}" = "$here" ]
}

# copy_primary makes a copy beside its place and moves it there when it is
# complete.
copy_primary() {
    new="$PG_DATA.new"
    rm -rf "$new"
    PGPASSWORD=$(cat "$PG_REPLICATION/password") "$PG_BIN/pg_basebackup" --pgdata="$new" --wal-method=stream --checkpoint=fast \
        --write-recovery-conf --no-password \
        --dbname="host=$PG_PRIMARY port=$PG_PRIMARY_PORT user=replicator connect_timeout=3" || return 1
    admit "$new"
    mv "$new" "$PG_DATA"
}

# follow sees to it that a replica follows: one that cannot, because the primary
# no longer has what happened meanwhile, is copied anew.
follow() {
    for _ in $(seq 60); do
        sleep 2
        kill -0 "$1" 2>/dev/null || return
        if [ "$(local_sql --dbname=postgres --command="SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'" 2>/dev/null)" = 1 ]; then
            touch "$PG_RUN/streamed"
            return
        fi
    done
    if ask_primary IDENTIFY_SYSTEM >/dev/null; then
        echo "the replica cannot follow its primary, it is copied anew" >&2
        touch "$PG_DATA.stale"
        kill -INT "$1"
    fi
}

umask 0077
export PG_SECRETS="${PG_SECRETS:-}" PG_REPLICATION="${PG_REPLICATION:-}"
PG_PRIMARY_PORT=${PG_PRIMARY_PORT:-5432}
more=""
trap 'exit 143' TERM INT
if [ "${PG_ROLE:-primary}" = replica ]; then
    rm -f "$PG_RUN/streamed"
    if [ -e "$PG_DATA.stale" ] || { [ -s "$PG_DATA/PG_VERSION" ] && ! same_system; }; then
        rm -rf "$PG_DATA" "$PG_DATA.stale"
    fi
    while [ ! -s "$PG_DATA/PG_VERSION" ]; do
        copy_primary || { echo "the primary cannot be copied yet" >&2; sleep 2; }
    done
else
    if [ ! -s "$PG_DATA/PG_VERSION" ]; then
        if [ ! -s "$PG_SECRETS/db-user" ] || [ ! -s "$PG_SECRETS/db-password" ]; then
            echo "the volume is empty and there is no secret with db-user and db-password" >&2
            exit 1
        fi
        initialise
    fi
    admit "$PG_DATA"
    if [ -s "$PG_REPLICATION/password" ]; then
        more="-c wal_keep_size=256MB"
    fi
fi

# $more is options, or nothing.
# shellcheck disable=SC2086
"$PG_BIN/postgres" -D "$PG_DATA" \
    -c listen_addresses="${PG_LISTEN:-*}" -c unix_socket_directories="$PG_RUN" \
    -c max_connections="$PG_MAX_CONNECTIONS" -c shared_buffers=64MB -c max_wal_size=512MB \
    -c password_encryption=scram-sha-256 -c jit=off -c max_parallel_workers_per_gather=0 \
    -c max_worker_processes=4 -c autovacuum_naptime=30s -c log_line_prefix='%m [%p] %q%u@%d ' $more &
server=$!
# SIGTERM would wait for the clients to go; SIGINT lets them go at once.
trap 'kill -INT "$server"' TERM INT
helper=""
if [ "${PG_ROLE:-primary}" = replica ]; then
    follow "$server" &
    helper=$!
elif [ -s "$PG_REPLICATION/password" ]; then
    let_replicas_in &
    helper=$!
fi
code=0
while kill -0 "$server" 2>/dev/null; do
    wait "$server" && code=0 || code=$?
done
[ -z "$helper" ] || kill "$helper" 2>/dev/null || true
exit "$code"
