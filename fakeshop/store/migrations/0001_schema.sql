CREATE SCHEMA catalog;
CREATE TABLE catalog.products (
    id          text PRIMARY KEY,
    name        text NOT NULL,
    category    text NOT NULL,
    description text NOT NULL,
    price_cents bigint NOT NULL CHECK (price_cents > 0),
    options     jsonb NOT NULL DEFAULT '[]'
);

CREATE SCHEMA inventory;
CREATE TABLE inventory.products (
    id            text PRIMARY KEY,
    stock_initial bigint NOT NULL CHECK (stock_initial >= 0),
    stock         bigint NOT NULL CHECK (stock >= 0)
) WITH (fillfactor = 50);
CREATE TABLE inventory.reservations (
    order_id   text NOT NULL,
    product_id text NOT NULL,
    quantity   integer NOT NULL CHECK (quantity > 0),
    state      text NOT NULL CHECK (state IN ('reserved', 'refused', 'released')),
    short      boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, product_id)
);

CREATE SCHEMA customers;
CREATE TABLE customers.customers (
    id             text PRIMARY KEY,
    name           text NOT NULL,
    email          text NOT NULL,
    segment        text NOT NULL,
    card_reference text NOT NULL
);

CREATE SCHEMA payments;
CREATE TABLE payments.payments (
    order_id     text PRIMARY KEY,
    amount_cents bigint NOT NULL CHECK (amount_cents > 0),
    state        text NOT NULL CHECK (state IN ('taken', 'declined')),
    card_token   text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE SCHEMA orders;
CREATE TABLE orders.orders (
    id               text PRIMARY KEY,
    customer_id      text NOT NULL,
    status           text NOT NULL CHECK (status IN ('pending', 'confirmed', 'out_of_stock', 'payment_declined')),
    total_cents      bigint NOT NULL CHECK (total_cents > 0),
    configuration_id text NOT NULL DEFAULT '',
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80);
CREATE INDEX orders_pending ON orders.orders (updated_at) WHERE status = 'pending';
CREATE TABLE orders.order_items (
    order_id   text NOT NULL REFERENCES orders.orders (id),
    product_id text NOT NULL,
    quantity   integer NOT NULL CHECK (quantity > 0),
    unit_cents bigint NOT NULL CHECK (unit_cents > 0),
    PRIMARY KEY (order_id, product_id)
);

CREATE SCHEMA configurator;
CREATE TABLE configurator.configurations (
    id          text PRIMARY KEY,
    product_id  text NOT NULL,
    options     jsonb NOT NULL,
    price_cents bigint NOT NULL CHECK (price_cents > 0),
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE SCHEMA recommend;
CREATE TABLE recommend.picks (
    segment    text NOT NULL,
    product_id text NOT NULL,
    score      integer NOT NULL,
    PRIMARY KEY (segment, product_id)
);

CREATE SCHEMA analytics;
CREATE TABLE analytics.events (
    id          text PRIMARY KEY,
    kind        text NOT NULL,
    subject     text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
);
