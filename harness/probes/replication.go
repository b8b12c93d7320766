package probes

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"meshsim.dev/meshsim/clusters/pause"
	shopchart "meshsim.dev/meshsim/fakeshop/chart"
	"meshsim.dev/meshsim/results"
)

// The statements of the probe. What it writes is a row of its own, in a schema
// that the shop knows nothing of.
const (
	lagSQL = `SELECT application_name, state, coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint::text, ''),
	coalesce(extract(epoch FROM replay_lag)::text, '') FROM pg_stat_replication ORDER BY 1, 2`
	markSQL = `SET client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS rehearsal;
CREATE TABLE IF NOT EXISTS rehearsal.marks (name text PRIMARY KEY, value text NOT NULL);
INSERT INTO rehearsal.marks VALUES ('replication', '%[1]s') ON CONFLICT (name) DO UPDATE SET value = '%[1]s'`
	readMarkSQL = `SELECT value FROM rehearsal.marks WHERE name = 'replication'`
	readersSQL  = `SELECT DISTINCT application_name FROM pg_stat_activity
	WHERE datname = 'shop' AND usename <> 'postgres' AND application_name NOT IN ('', '` + shopchart.Rotator + `') ORDER BY 1`
	receivingSQL = `SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'`
)

// How long a row may take to be readable before the probe gives up, and how
// often it looks.
const (
	replicationPatience = 30 * time.Second
	replicationLook     = 100 * time.Millisecond
)

// Replication asks the primary how far its replicas are behind, writes a row,
// and looks when it can be read on the replica.
func Replication(ctx context.Context, primary, replica Database, phase string) (results.Replication, error) {
	seen := results.Replication{Phase: phase, Standbys: []results.Standby{}, Readers: []string{}}
	rows, err := primary.Query(ctx, lagSQL)
	if err != nil {
		return seen, fmt.Errorf("ask the primary for its replicas: %w", err)
	}
	for _, row := range rows {
		standby, err := readStandby(row)
		if err != nil {
			return seen, err
		}
		seen.Standbys = append(seen.Standbys, standby)
	}
	began, value := time.Now(), rand.Text()
	if _, err := primary.Query(ctx, fmt.Sprintf(markSQL, value)); err != nil {
		return seen, fmt.Errorf("write a row to the primary: %w", err)
	}
	after, why, err := awaitRow(ctx, replica, value, began)
	if err != nil {
		return seen, err
	}
	seen.ReadableAfterMs, seen.Why = &after, why
	if seen.Readers, err = ReplicaReaders(ctx, replica); err != nil && after >= 0 {
		return seen, err
	}
	return seen, nil
}

func readStandby(row []string) (results.Standby, error) {
	if len(row) != 4 {
		return results.Standby{}, fmt.Errorf("a line of pg_stat_replication has %d columns, not 4", len(row))
	}
	standby := results.Standby{Name: row[0], State: row[1]}
	if row[2] != "" {
		bytes, err := strconv.ParseInt(row[2], 10, 64)
		if err != nil {
			return standby, fmt.Errorf("read a replica's lag: %w", err)
		}
		standby.LagBytes = &bytes
	}
	if row[3] != "" {
		seconds, err := strconv.ParseFloat(row[3], 64)
		if err != nil {
			return standby, fmt.Errorf("read a replica's lag: %w", err)
		}
		standby.LagSeconds = &seconds
	}
	return standby, nil
}

// awaitRow looks for the row until it is there. A replica that does not answer is
// one that it cannot be read on; only the end of ctx is an error.
func awaitRow(ctx context.Context, replica Database, value string, began time.Time) (afterMs int64, why string, err error) {
	for {
		values, err := column(ctx, replica, readMarkSQL)
		switch {
		case err == nil && strings.Join(values, "") == value:
			return time.Since(began).Milliseconds(), "", nil
		case err == nil:
			why = "the replica does not have the row"
		case ctx.Err() != nil:
			return 0, "", context.Cause(ctx)
		default:
			why = err.Error()
		}
		if time.Since(began) > replicationPatience {
			return -1, why, nil
		}
		if err := pause.For(ctx, replicationLook); err != nil {
			return 0, "", err
		}
	}
}

// ReplicaReaders names the shop's services that have connections to the replica.
func ReplicaReaders(ctx context.Context, replica Database) ([]string, error) {
	readers, err := column(ctx, replica, readersSQL)
	if err != nil {
		return []string{}, fmt.Errorf("ask the replica who reads from it: %w", err)
	}
	return readers, nil
}

// ErrNotStreaming tells that a replica answers and does not follow its primary.
var ErrNotStreaming = errors.New("the replica does not stream from its primary")

// ReplicaStreams is nil when the replica says that it follows its primary.
func ReplicaStreams(ctx context.Context, replica Database) error {
	receiving, err := column(ctx, replica, receivingSQL)
	if err != nil {
		return fmt.Errorf("ask the replica whether it streams: %w", err)
	}
	if strings.Join(receiving, "") != "1" {
		return ErrNotStreaming
	}
	return nil
}
