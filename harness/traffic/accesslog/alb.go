package accesslog

import "bytes"

// albParser reads access logs of AWS application load balancers. A line has its
// fields in this order:
//
//	type time elb client:port target:port request_processing_time
//	target_processing_time response_processing_time elb_status_code
//	target_status_code received_bytes sent_bytes "request" "user_agent"
//	ssl_cipher ssl_protocol target_group_arn "trace_id" "domain_name"
//	"chosen_cert_arn" matched_rule_priority request_creation_time
//	"actions_executed" "redirect_url" "error_reason" "target:port_list"
//	"target_status_code_list" "classification" "classification_reason"
//	conn_trace_id "transformed_host" "transformed_uri" "request_transform_status"
//
// The first logs ended with target_group_arn; the others came over the years,
// and more may: what follows request_creation_time is not looked at.
type albParser struct{}

// longestCall is how long after its request an answer may come: the longest
// idle timeout that a load balancer can have, and more.
const longestCall = 3 * 3600 * 1_000_000

// Parse takes as a request's time when it came (request_creation_time). Where
// older logs do not say, that is the time of the answer less what it took.
func (albParser) Parse(line []byte, l *Line) Reason {
	if reason := blank(line); reason != OK {
		return reason
	}
	if !albType(line) {
		return Foreign
	}
	kind, rest, _ := nextField(line)
	answered, rest, reason := nextField(rest)
	if reason != OK {
		return reason
	}
	// elb, client and target
	if rest, reason = skipFields(rest, 3); reason != OK {
		return reason
	}
	var took int64
	for range 3 {
		var field []byte
		if field, rest, reason = nextField(rest); reason != OK {
			return reason
		}
		took += decimalMicros(field)
	}
	status, rest, reason := nextField(rest)
	if reason != OK {
		return reason
	}
	// target_status_code and the bytes
	if rest, reason = skipFields(rest, 3); reason != OK {
		return reason
	}
	request, rest, reason := nextField(rest)
	if reason != OK {
		return reason
	}
	// user_agent to target_group_arn, which every line has
	if rest, reason = skipFields(rest, 4); reason != OK {
		return reason
	}
	if l.At, l.Coarse, reason = albTime(answered, took, rest); reason != OK {
		return reason
	}
	if kind[0] == 'w' {
		return WebSocket
	}
	l.Class = class(status)
	return readRequest(request, l)
}

// albTime finds when a request came; rest is what follows target_group_arn.
func albTime(answered []byte, took int64, rest []byte) (micros int64, coarse bool, reason Reason) {
	end, coarse, reason := readISO(answered)
	if reason != OK {
		return 0, false, reason
	}
	// trace_id to matched_rule_priority
	if rest, reason = skipFields(rest, 4); reason == OK {
		if created, _, reason := nextField(rest); reason == OK {
			if begin, coarse, reason := readISO(created); reason == OK && begin <= end && end-begin <= longestCall {
				return begin, coarse, OK
			}
		}
	}
	return end - min(took, longestCall), coarse, OK
}

// albType tells whether a line begins with one of the types of request.
func albType(line []byte) bool {
	kind, _, ok := bytes.Cut(line[:min(len(line), 6)], []byte{' '})
	if !ok {
		return false
	}
	switch string(kind) {
	case "http", "https", "h2", "grpc", "grpcs", "ws", "wss":
		return true
	}
	return false
}
