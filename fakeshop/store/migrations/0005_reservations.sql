-- A reservation is kept until it expires, unless it is committed: sold.
ALTER TABLE inventory.reservations
    DROP CONSTRAINT reservations_state_check,
    ADD COLUMN expires_at timestamptz NOT NULL DEFAULT 'infinity';
UPDATE inventory.reservations r SET state = 'committed'
    FROM orders.orders o WHERE o.id = r.order_id AND o.status = 'confirmed' AND r.state = 'reserved';
UPDATE inventory.reservations SET expires_at = now() + interval '15 minutes' WHERE state = 'reserved';
ALTER TABLE inventory.reservations
    ADD CONSTRAINT reservations_state CHECK (state IN ('reserved', 'refused', 'released', 'committed', 'expired')),
    ADD CONSTRAINT reservations_expire CHECK (state <> 'reserved' OR expires_at < 'infinity');
CREATE INDEX reservations_held ON inventory.reservations (expires_at) WHERE state = 'reserved';

-- Together with stock >= 0: nothing is sold twice, nothing given back twice.
ALTER TABLE inventory.products ADD CONSTRAINT products_no_more_than_made CHECK (stock <= stock_initial);
