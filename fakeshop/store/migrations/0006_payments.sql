ALTER TABLE payments.payments
    DROP CONSTRAINT payments_state_check,
    DROP CONSTRAINT payments_amount_cents_check,
    ADD CONSTRAINT payments_state CHECK (state IN ('taken', 'declined', 'refunded')),
    -- A refund of what was never taken has no amount.
    ADD CONSTRAINT payments_amount CHECK (amount_cents > 0 OR amount_cents = 0 AND state = 'refunded');

-- The payment provider's own book. It is not the shop's: only the fake provider
-- writes here, and only by key.
CREATE SCHEMA provider;
CREATE TABLE provider.charges (
    key          text PRIMARY KEY,
    amount_cents bigint NOT NULL CHECK (amount_cents >= 0),
    state        text NOT NULL CHECK (state IN ('captured', 'declined', 'voided')),
    card_token   text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);
INSERT INTO provider.charges (key, amount_cents, state, card_token, created_at)
    SELECT order_id, amount_cents, CASE state WHEN 'taken' THEN 'captured' ELSE 'declined' END, card_token, created_at FROM payments.payments;
