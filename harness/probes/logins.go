package probes

import (
	"context"
	"fmt"
	"strconv"

	"meshsim.dev/meshsim/clusters/stack"
)

// loginsSQL leaves out the superuser, and the copies of services that steps make
// outside the shop. A session whose login was dropped has none.
const loginsSQL = `SELECT application_name, coalesce(usename, ''), count(*) FROM pg_stat_activity
	WHERE datname = 'shop' AND backend_type = 'client backend' AND application_name <> ''
	AND coalesce(usename, '') NOT IN ('postgres', '` + stack.LentLogin + `') GROUP BY 1, 2`

// Logins counts, by service and login, the sessions that the shop's services have
// in the databases given. The login "" is one that is gone.
func Logins(ctx context.Context, databases ...Database) (map[string]map[string]int, error) {
	all := map[string]map[string]int{}
	for _, db := range databases {
		rows, err := db.Query(ctx, loginsSQL)
		if err != nil {
			return nil, fmt.Errorf("ask the database who is connected: %w", err)
		}
		for _, row := range rows {
			if len(row) != 3 {
				return nil, fmt.Errorf("a line of the database's sessions has %d columns, not 3", len(row))
			}
			n, err := strconv.Atoi(row[2])
			if err != nil {
				return nil, fmt.Errorf("count the database's sessions: %w", err)
			}
			if all[row[0]] == nil {
				all[row[0]] = map[string]int{}
			}
			all[row[0]][row[1]] += n
		}
	}
	return all, nil
}
