ALTER TABLE analytics.events ADD COLUMN product_ids text[] NOT NULL DEFAULT '{}';

-- How often two products were in one confirmed order; each pair in both orders.
CREATE TABLE analytics.bought_together (
    product_id text NOT NULL,
    with_id    text NOT NULL CHECK (with_id <> product_id),
    orders     bigint NOT NULL CHECK (orders > 0),
    PRIMARY KEY (product_id, with_id)
) WITH (fillfactor = 80);

-- The catalogue's edition: who holds a copy of it needs to read it again only
-- when this has changed.
CREATE TABLE catalog.edition (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    edition bigint NOT NULL
);
INSERT INTO catalog.edition (edition) VALUES (1);
CREATE FUNCTION catalog.new_edition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE catalog.edition SET edition = edition + 1;
    RETURN NULL;
END $$;
CREATE TRIGGER new_edition AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON catalog.products
    FOR EACH STATEMENT EXECUTE FUNCTION catalog.new_edition();
ALTER TABLE catalog.products ADD COLUMN model text NOT NULL DEFAULT '';
