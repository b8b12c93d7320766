package results

//go:generate go test -run TestThePublishedSchemaIsWhatTheTypesSay -update .

import _ "embed"

// VerdictSchema is the JSON schema (draft 2020-12) that verdict.json keeps to.
//
//go:embed verdict.schema.json
var VerdictSchema []byte
