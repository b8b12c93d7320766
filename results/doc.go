// Package results is the evidence of rehearsals: one folder a run, holding
// run.json (what ran, on what), requests.jsonl, events.jsonl and probes.jsonl
// (what was seen, one JSON object a line), and what was concluded from them
// (verdict.json and the reports).
//
// A folder is written while the run goes on and can be read at any time, also
// when the run was cut off in the middle of a line. Everything that judges or
// shows a run reads this folder and nothing else.
//
// All times inside a run are nanoseconds since the run's start on one
// monotonic clock.
package results
