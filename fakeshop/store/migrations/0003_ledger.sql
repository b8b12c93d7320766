CREATE SCHEMA ledger;

-- Products of which more was promised than there was, or whose stock does not
-- follow from what was reserved.
CREATE VIEW ledger.oversold AS
SELECT p.id AS product_id, p.stock_initial, p.stock, coalesce(r.reserved, 0) AS reserved
FROM inventory.products p
LEFT JOIN (SELECT product_id, sum(quantity) AS reserved
           FROM inventory.reservations WHERE state = 'reserved' GROUP BY product_id) r ON r.product_id = p.id
WHERE p.stock < 0 OR p.stock <> p.stock_initial - coalesce(r.reserved, 0);

-- Settled orders whose reserved pieces are not what was ordered: more (doubled)
-- or fewer. Refused orders must have nothing reserved.
CREATE VIEW ledger.doubled AS
SELECT order_id, product_id, sum(wanted) AS wanted, sum(reserved) AS reserved
FROM (
    SELECT i.order_id, i.product_id, CASE WHEN o.status = 'confirmed' THEN i.quantity ELSE 0 END AS wanted, 0 AS reserved
    FROM orders.order_items i JOIN orders.orders o ON o.id = i.order_id WHERE o.status <> 'pending'
    UNION ALL
    SELECT r.order_id, r.product_id, 0, r.quantity
    FROM inventory.reservations r LEFT JOIN orders.orders o ON o.id = r.order_id
    WHERE r.state = 'reserved' AND o.status IS DISTINCT FROM 'pending'
) AS both_sides
GROUP BY order_id, product_id
HAVING sum(wanted) <> sum(reserved);

-- Settled orders that were paid when they should not be, not paid when they
-- should, or paid with another sum.
CREATE VIEW ledger.payment_mismatch AS
SELECT coalesce(o.id, p.order_id) AS order_id, o.status, o.total_cents, p.state AS payment, p.amount_cents
FROM orders.orders o
FULL JOIN payments.payments p ON p.order_id = o.id
WHERE o.status IS DISTINCT FROM 'pending'
  AND CASE
        WHEN o.id IS NULL THEN true
        WHEN o.status = 'confirmed' THEN p.state IS DISTINCT FROM 'taken' OR p.amount_cents <> o.total_cents
        WHEN o.status = 'payment_declined' THEN p.state IS DISTINCT FROM 'declined'
        ELSE p.order_id IS NOT NULL
      END;
