// Package store keeps the shop in PostgreSQL: one database, a schema for each
// service, and migrations that any pod may run. Statements go by keys, so that
// each may be repeated; while the database restarts they are, until their
// caller's time is over.
//
// Every object belongs to the group role shop_app; every login role of the
// shop is a member of it, so that roles can come and go (secret rotation)
// without a table changing hands.
//
// # Tables
//
//	orders.orders(id, customer_id, status, reason, cancelling, total_cents, configuration_id,
//	              created_at, updated_at, reserved_at, paid_at, settled_at)
//	    status: placed | reserved | paid | confirmed | cancelled
//	    reason, of a cancelled one: out_of_stock | payment_declined | reservation_expired | payment_unresolved
//	orders.order_items(order_id, product_id, quantity, unit_cents)
//	orders.outbox(id, kind, order_id, product_ids, taken_at): events not told yet
//	inventory.products(id, stock_initial, stock)
//	inventory.reservations(order_id, product_id, quantity, state, short, created_at, expires_at)
//	    state: reserved | refused | released | committed | expired
//	payments.payments(order_id, amount_cents, state, card_token, created_at)
//	    state: taken | declined | refunded
//	provider.charges(key, amount_cents, state, card_token, created_at): the payment provider's own book
//	    state: captured | declined | voided
//	catalog.products, catalog.edition, customers.customers, configurator.configurations,
//	recommend.picks, analytics.events, analytics.bought_together
//
// # What a ledger check asks
//
// An order is unsettled only while it is worked on; one left behind by a pod
// that died is finished by another within about a minute. So first wait for
//
//	SELECT count(*) FROM orders.orders WHERE settled_at IS NULL;
//
// to be 0. Then, for the orders of a run (ids chosen by the client):
//
//	-- what became of each: an acknowledged order that is not 'confirmed' is lost;
//	-- an ambiguous one may be confirmed, cancelled, or absent
//	SELECT id, status, reason, total_cents FROM orders.orders WHERE id = ANY($1);
//	-- pieces kept twice, or not at all, for a settled order
//	SELECT DISTINCT order_id FROM ledger.doubled;
//	-- products promised more often than there were
//	SELECT product_id FROM ledger.oversold;
//	-- paid twice, not at all, with another sum, or not as the provider says
//	SELECT order_id FROM ledger.payment_mismatch;
//
// All three views are empty in a shop that did nothing wrong.
package store
