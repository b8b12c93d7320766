DROP VIEW ledger.oversold, ledger.doubled, ledger.payment_mismatch;

-- Products of which more was promised than there was, or whose stock does not
-- follow from what was reserved and sold.
CREATE VIEW ledger.oversold AS
SELECT p.id AS product_id, p.stock_initial, p.stock, coalesce(r.reserved, 0) AS reserved
FROM inventory.products p
LEFT JOIN (SELECT product_id, sum(quantity) AS reserved
           FROM inventory.reservations WHERE state IN ('reserved', 'committed') GROUP BY product_id) r ON r.product_id = p.id
WHERE p.stock < 0 OR p.stock <> p.stock_initial - coalesce(r.reserved, 0);

-- Settled orders whose kept pieces are not what was ordered: more (doubled) or
-- fewer. Cancelled orders must have nothing kept.
CREATE VIEW ledger.doubled AS
SELECT order_id, product_id, sum(wanted) AS wanted, sum(reserved) AS reserved
FROM (
    SELECT i.order_id, i.product_id, CASE WHEN o.status = 'confirmed' THEN i.quantity ELSE 0 END AS wanted, 0 AS reserved
    FROM orders.order_items i JOIN orders.orders o ON o.id = i.order_id WHERE o.settled_at IS NOT NULL
    UNION ALL
    SELECT r.order_id, r.product_id, 0, r.quantity
    FROM inventory.reservations r LEFT JOIN orders.orders o ON o.id = r.order_id
    WHERE r.state IN ('reserved', 'committed') AND (o.id IS NULL OR o.settled_at IS NOT NULL)
) AS both_sides
GROUP BY order_id, product_id
HAVING sum(wanted) <> sum(reserved);

-- Settled orders that were paid when they should not be, not paid when they
-- should, or paid with another sum; whose total is not that of their items; or
-- of which the payment provider has another story.
CREATE VIEW ledger.payment_mismatch AS
SELECT coalesce(o.id, p.order_id, c.key) AS order_id, o.status, o.reason, o.total_cents, i.total_cents AS items_cents,
       p.state AS payment, p.amount_cents, c.state AS provider, c.amount_cents AS provider_cents
FROM orders.orders o
FULL JOIN payments.payments p ON p.order_id = o.id
FULL JOIN provider.charges c ON c.key = coalesce(o.id, p.order_id)
LEFT JOIN (SELECT order_id, sum(quantity * unit_cents) AS total_cents FROM orders.order_items GROUP BY order_id) i ON i.order_id = o.id
WHERE (o.id IS NULL OR o.settled_at IS NOT NULL)
  AND CASE
        WHEN o.id IS NULL THEN true
        WHEN o.total_cents IS DISTINCT FROM i.total_cents THEN true
        WHEN o.status = 'confirmed' THEN
            (p.state, p.amount_cents, c.state, c.amount_cents) IS DISTINCT FROM ('taken', o.total_cents, 'captured', o.total_cents)
        WHEN o.reason = 'payment_declined' THEN (p.state, c.state) IS DISTINCT FROM ('declined', 'declined')
        WHEN o.reason = 'out_of_stock' THEN p.order_id IS NOT NULL OR c.key IS NOT NULL
        ELSE (p.state, c.state) IS DISTINCT FROM ('refunded', 'voided')
      END;
