-- An order's way: placed, reserved, paid, confirmed; or cancelled from any of
-- the first three, for a reason. The row shows which stages it has passed.
ALTER TABLE orders.orders
    DROP CONSTRAINT orders_status_check,
    ADD COLUMN reason text NOT NULL DEFAULT '',
    -- Why it is going to be cancelled: decided before anything is undone, so
    -- that nobody confirms meanwhile.
    ADD COLUMN cancelling text NOT NULL DEFAULT '',
    ADD COLUMN reserved_at timestamptz,
    ADD COLUMN paid_at timestamptz,
    ADD COLUMN settled_at timestamptz;
UPDATE orders.orders SET
    status = CASE status WHEN 'pending' THEN 'placed' WHEN 'confirmed' THEN status ELSE 'cancelled' END,
    reason = CASE WHEN status IN ('out_of_stock', 'payment_declined') THEN status ELSE '' END,
    reserved_at = CASE WHEN status = 'confirmed' THEN updated_at END,
    paid_at = CASE WHEN status = 'confirmed' THEN updated_at END,
    settled_at = CASE WHEN status <> 'pending' THEN updated_at END;
ALTER TABLE orders.orders
    ADD CONSTRAINT orders_status CHECK (status IN ('placed', 'reserved', 'paid', 'confirmed', 'cancelled')),
    ADD CONSTRAINT orders_reason CHECK (CASE WHEN status = 'cancelled'
        THEN reason IN ('out_of_stock', 'payment_declined', 'reservation_expired', 'payment_unresolved') ELSE reason = '' END),
    ADD CONSTRAINT orders_cancelling CHECK (cancelling = '' OR status <> 'confirmed'),
    ADD CONSTRAINT orders_was_reserved CHECK (reserved_at IS NOT NULL OR status NOT IN ('reserved', 'paid', 'confirmed')),
    ADD CONSTRAINT orders_was_paid CHECK (paid_at IS NOT NULL OR status NOT IN ('paid', 'confirmed')),
    ADD CONSTRAINT orders_is_settled CHECK ((settled_at IS NOT NULL) = (status IN ('confirmed', 'cancelled')));
DROP INDEX orders.orders_pending;
CREATE INDEX orders_unsettled ON orders.orders (updated_at) WHERE status IN ('placed', 'reserved', 'paid');

-- No writer, however wrong, takes an order backwards or past its end.
CREATE FUNCTION orders.only_forward() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    way CONSTANT text[] := ARRAY['placed', 'reserved', 'paid', 'confirmed'];
BEGIN
    IF OLD.status IN ('confirmed', 'cancelled')
        OR NEW.status <> 'cancelled' AND array_position(way, NEW.status) < array_position(way, OLD.status) THEN
        RAISE EXCEPTION 'order % cannot go from % to %', OLD.id, OLD.status, NEW.status USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER only_forward BEFORE UPDATE OF status ON orders.orders
    FOR EACH ROW WHEN (OLD.status <> NEW.status) EXECUTE FUNCTION orders.only_forward();

-- What others are to be told of, written together with what happened, and
-- removed when they have taken it.
CREATE TABLE orders.outbox (
    id          text PRIMARY KEY,
    kind        text NOT NULL,
    order_id    text NOT NULL,
    product_ids text[] NOT NULL,
    taken_at    timestamptz NOT NULL DEFAULT now() -- when a pod last took it upon itself
);
