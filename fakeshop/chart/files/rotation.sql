-- What the rotator of the shop's secrets may do in the database: make a login of
-- the shop, or give it a new password; see which logins there are, and how many
-- sessions each has; and end one that nobody uses. It may do so by the functions
-- below alone, which work on names of one form, and it gets at no table of the
-- shop. They belong to a role that cannot log in and is no superuser.
--
-- Run by the superuser in the shop's database, as often as one likes. For
-- PostgreSQL 14 and 15.
BEGIN;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'shop_keeper') THEN
        CREATE ROLE shop_keeper NOLOGIN CREATEROLE;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'shop_rotation') THEN
        CREATE ROLE shop_rotation NOLOGIN;
    END IF;
END $$;
GRANT CONNECT ON DATABASE shop TO shop_rotation;
CREATE SCHEMA IF NOT EXISTS rotation AUTHORIZATION shop_keeper;

-- group_of is the group whose member a login is by its name; NULL for all that
-- is not the rotator's to touch.
CREATE OR REPLACE FUNCTION rotation.group_of(login text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN login ~ '^shop_[a-z_]+_[ab]$' THEN 'shop_app'
                WHEN login ~ '^secret_rotator_[ab]$' THEN 'shop_rotation' END
$$;

-- renew gives a login the password that a verifier (RFC 5803) is of; so the
-- password itself never comes here.
CREATE OR REPLACE FUNCTION rotation.renew(login text, verifier text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    belongs text := rotation.group_of(login);
BEGIN
    IF belongs IS NULL THEN
        RAISE EXCEPTION '% is no login that is rotated', login USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF verifier !~ '^SCRAM-SHA-256\$[0-9]+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+$' THEN
        RAISE EXCEPTION 'this is no verifier of a password' USING ERRCODE = 'invalid_password';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = login) THEN
        EXECUTE format('CREATE ROLE %I', login);
        EXECUTE format('GRANT %I TO %I', belongs, login);
    END IF;
    EXECUTE format('ALTER ROLE %I LOGIN PASSWORD %L', login, verifier);
END
$$;

-- retire ends a login that has no session here. One that owns something stays as
-- a role that cannot log in.
CREATE OR REPLACE FUNCTION rotation.retire(login text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF rotation.group_of(login) IS NULL AND login <> 'shop_vault' THEN
        RAISE EXCEPTION '% is no login that is rotated', login USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF EXISTS (SELECT FROM pg_stat_activity WHERE usename = login) THEN
        RAISE EXCEPTION '% has sessions', login USING ERRCODE = 'object_in_use';
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = login) THEN
        EXECUTE format('ALTER ROLE %I NOLOGIN PASSWORD NULL', login);
        BEGIN
            EXECUTE format('DROP ROLE %I', login);
        EXCEPTION WHEN dependent_objects_still_exist THEN
            NULL;
        END;
    END IF;
END
$$;

-- logins are those that the rotator looks after, with how many sessions each has
-- on this server, the asking one left out.
CREATE OR REPLACE FUNCTION rotation.logins() RETURNS TABLE (login text, sessions bigint)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT r.rolname::text, count(a.pid)
    FROM pg_roles r LEFT JOIN pg_stat_activity a ON a.usename = r.rolname AND a.pid <> pg_backend_pid()
    WHERE r.rolcanlogin AND (rotation.group_of(r.rolname::text) IS NOT NULL OR r.rolname = 'shop_vault')
    GROUP BY r.rolname
$$;

ALTER FUNCTION rotation.group_of(text) OWNER TO shop_keeper;
ALTER FUNCTION rotation.renew(text, text) OWNER TO shop_keeper;
ALTER FUNCTION rotation.retire(text) OWNER TO shop_keeper;
ALTER FUNCTION rotation.logins() OWNER TO shop_keeper;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA rotation FROM PUBLIC;
GRANT USAGE ON SCHEMA rotation TO shop_rotation;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA rotation TO shop_rotation;

COMMIT;
