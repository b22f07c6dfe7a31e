-- What this crate relies on, and no more: the real schema is the migrations', and the scenarios run on that.
CREATE TABLE tenantry_session (name text PRIMARY KEY, value text NOT NULL);
CREATE TABLE tenants (
    id uuid_text PRIMARY KEY NOT NULL,
    name text NOT NULL,
    subdomain text NOT NULL,
    domain text UNIQUE,
    plan text NOT NULL DEFAULT 'starter',
    status text NOT NULL DEFAULT 'active',
    settings jsonb_text NOT NULL DEFAULT '{}',
    subscription_id text,
    data_source_url text,
    data_source_anon_key text,
    data_source_service_key text,
    data_source_region text,
    connection_pool_config jsonb_text NOT NULL DEFAULT '{"min":2,"max":10}',
    data_source_notes text,
    tenant_id_in_data_source text,
    created_at timestamp_with_timezone_text NOT NULL DEFAULT '2026-01-01T00:00:00.000000+00:00',
    updated_at timestamp_with_timezone_text NOT NULL DEFAULT '2026-01-01T00:00:00.000000+00:00',
    placement_epoch bigint NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX tenants_subdomain ON tenants (lower(subdomain));
CREATE TRIGGER tenants_epoch AFTER UPDATE ON tenants
WHEN (old.data_source_url, old.data_source_anon_key, old.data_source_service_key, old.tenant_id_in_data_source)
    IS NOT (new.data_source_url, new.data_source_anon_key, new.data_source_service_key, new.tenant_id_in_data_source)
BEGIN
    UPDATE tenants SET placement_epoch = old.placement_epoch + 1 WHERE id = new.id;
END;
CREATE TABLE users (
    id uuid_text PRIMARY KEY NOT NULL DEFAULT (randomblob(16)),
    tenant_id uuid_text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    email text NOT NULL,
    first_name text,
    last_name text,
    role text NOT NULL DEFAULT 'user',
    permissions jsonb_text NOT NULL DEFAULT '{}',
    status text NOT NULL DEFAULT 'active',
    password_hash text,
    last_login timestamp_with_timezone_text,
    created_at timestamp_with_timezone_text NOT NULL DEFAULT '2026-01-01T00:00:00.000000+00:00',
    updated_at timestamp_with_timezone_text NOT NULL DEFAULT '2026-01-01T00:00:00.000000+00:00'
);
CREATE TRIGGER users_updated_at AFTER UPDATE ON users WHEN old.updated_at = new.updated_at
BEGIN
    UPDATE users SET updated_at = '2026-02-02T00:00:00.000000+00:00' WHERE id = new.id;
END;
CREATE TABLE audit_log (
    id uuid_text PRIMARY KEY NOT NULL,
    tenant_id uuid_text,
    user_id uuid_text,
    action text NOT NULL,
    entity_type text NOT NULL,
    entity_id text,
    changes jsonb_text,
    ip_address text,
    user_agent text,
    created_at timestamp_with_timezone_text NOT NULL DEFAULT '2026-01-01T00:00:00.000000+00:00'
);
CREATE TABLE data_sources (
    url text PRIMARY KEY NOT NULL,
    region text,
    kind text NOT NULL DEFAULT 'shared',
    pooler_mode text NOT NULL DEFAULT 'auto',
    direct_url text,
    max_connections integer NOT NULL DEFAULT 10,
    settings jsonb_text NOT NULL DEFAULT '{}',
    notes text,
    admitted_at timestamp_with_timezone_text,
    schema_version text,
    created_at timestamp_with_timezone_text NOT NULL DEFAULT '2026-01-01T00:00:00.000000+00:00',
    updated_at timestamp_with_timezone_text NOT NULL DEFAULT '2026-01-01T00:00:00.000000+00:00'
);
CREATE TABLE tenantry_transfers (
    id uuid_text PRIMARY KEY NOT NULL,
    tenant_id uuid_text NOT NULL,
    undoes uuid_text,
    step text NOT NULL,
    source_url text,
    source_key text NOT NULL,
    source_placement text NOT NULL,
    target_url text,
    target_key text NOT NULL,
    target_placement text NOT NULL,
    expected_epoch bigint NOT NULL,
    placed_epoch bigint,
    owner uuid_text,
    lease_until timestamp_with_timezone_text,
    lease_epoch bigint NOT NULL,
    held_since timestamp_with_timezone_text,
    held_ms bigint,
    tables bigint NOT NULL,
    records bigint NOT NULL,
    reference_tables text NOT NULL,
    copied text,
    report text,
    problem text,
    created_at timestamp_with_timezone_text NOT NULL,
    updated_at timestamp_with_timezone_text NOT NULL
);
CREATE UNIQUE INDEX tenantry_transfers_under_way ON tenantry_transfers (tenant_id)
    WHERE step NOT IN ('finished', 'purged', 'returned', 'aborted');
CREATE TABLE accounts (tenant_id uuid_text NOT NULL, id uuid_text NOT NULL);
