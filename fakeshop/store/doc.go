// Package store keeps the shop in PostgreSQL: one database, a schema for each
// service, and migrations that any pod may run.
//
// Every object belongs to the group role shop_app; every login role of the
// shop is a member of it, so that roles can come and go (secret rotation)
// without a table changing hands.
//
// # Tables
//
//	orders.orders(id, customer_id, status, total_cents, configuration_id, created_at, updated_at)
//	    status: pending | confirmed | out_of_stock | payment_declined
//	orders.order_items(order_id, product_id, quantity, unit_cents)
//	inventory.products(id, stock_initial, stock)
//	inventory.reservations(order_id, product_id, quantity, state, short, created_at)
//	    state: reserved | refused | released
//	payments.payments(order_id, amount_cents, state, card_token, created_at)
//	    state: taken | declined
//	catalog.products, customers.customers, configurator.configurations,
//	recommend.picks, analytics.events
//
// # What a ledger check asks
//
// An order is pending only while it is worked on; one left behind by a pod
// that died is finished by another within about 30 s. So first wait for
//
//	SELECT count(*) FROM orders.orders WHERE status = 'pending';
//
// to be 0. Then, for the orders of a run (ids chosen by the client):
//
//	-- what became of each: an acknowledged order that is not 'confirmed' is lost;
//	-- an ambiguous one may be any of the settled states, or absent
//	SELECT id, status, total_cents FROM orders.orders WHERE id = ANY($1);
//	-- pieces reserved twice, or not at all, for a settled order
//	SELECT DISTINCT order_id FROM ledger.doubled;
//	-- products promised more often than there were
//	SELECT product_id FROM ledger.oversold;
//	-- paid twice, not at all, or with another sum
//	SELECT order_id FROM ledger.payment_mismatch;
//
// All three views are empty in a shop that did nothing wrong.
package store
