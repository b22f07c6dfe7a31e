//! The 13 business tables: the reference schema, a definition each. An application of another trade brings its own.

use sea_orm_migration::schema::{
    boolean_null, date, date_null, decimal_len, decimal_len_null, integer_null, json_binary_null, text, text_null,
    time_null, timestamp_with_time_zone_null, uuid, uuid_null,
};

use crate::{OnDelete, TenantTable};

/// The definitions, parents before children.
pub(super) fn tables() -> [TenantTable; 13] {
    [
        accounts(),
        contacts(),
        contact_accounts(),
        leads(),
        opportunities(),
        opportunity_line_items(),
        locations(),
        events(),
        event_dates(),
        tasks(),
        notes(),
        attachments(),
        communications(),
    ]
}

fn accounts() -> TenantTable {
    TenantTable::new("accounts")
        .column(text("name"))
        .columns(["first_name", "last_name"].map(text_null))
        .column(text_null("account_type").default("company"))
        .columns(["industry", "website", "business_url", "photo_url", "phone", "email"].map(text_null))
        .column(json_binary_null("billing_address"))
        .columns(
            ["billing_address_line_1", "billing_address_line_2", "billing_city", "billing_state", "billing_zip_code"]
                .map(text_null),
        )
        .column(json_binary_null("shipping_address"))
        .columns(
            [
                "shipping_address_line_1",
                "shipping_address_line_2",
                "shipping_city",
                "shipping_state",
                "shipping_zip_code",
                "tax_id",
            ]
            .map(text_null),
        )
        .column(text_null("payment_terms").default("net_30"))
        .column(decimal_len_null("credit_limit", 10, 2))
        .column(decimal_len_null("annual_revenue", 12, 2))
        .column(integer_null("employee_count"))
        .column(text_null("status").default("active"))
        .column(uuid_null("assigned_to"))
        .column(text_null("notes"))
        .one_of("account_type", ["individual", "company"])
        .one_of("status", ["active", "inactive", "suspended"])
}

fn contacts() -> TenantTable {
    TenantTable::new("contacts")
        .column(uuid_null("account_id"))
        .column(text("first_name"))
        .column(text("last_name"))
        .columns(["email", "phone", "job_title", "department"].map(text_null))
        .column(json_binary_null("address"))
        .columns(["address_line_1", "address_line_2", "city", "state", "zip_code", "avatar_url"].map(text_null))
        .column(text_null("status").default("active"))
        .references("account_id", "accounts", OnDelete::SetNull)
        .one_of("status", ["active", "inactive"])
}

fn contact_accounts() -> TenantTable {
    TenantTable::new("contact_accounts")
        .column(uuid("contact_id"))
        .column(uuid("account_id"))
        .column(boolean_null("is_primary").default(false))
        .columns(["role", "notes"].map(text_null))
        .column(date_null("start_date"))
        .column(date_null("end_date"))
        .column(uuid_null("created_by"))
        .column(uuid_null("updated_by"))
        .references("contact_id", "contacts", OnDelete::Cascade)
        .references("account_id", "accounts", OnDelete::Cascade)
        .unique(["contact_id", "account_id"])
}

fn leads() -> TenantTable {
    TenantTable::new("leads")
        .column(text_null("lead_type").default("personal"))
        .column(text("first_name"))
        .column(text("last_name"))
        .columns(["email", "phone", "company", "company_url", "photo_url"].map(text_null))
        .column(text_null("status").default("new"))
        .columns(["source", "notes"].map(text_null))
        .column(boolean_null("is_converted").default(false))
        .column(timestamp_with_time_zone_null("converted_at"))
        .column(uuid_null("converted_account_id"))
        .column(uuid_null("converted_contact_id"))
        .references("converted_account_id", "accounts", OnDelete::NoAction)
        .references("converted_contact_id", "contacts", OnDelete::NoAction)
        .one_of("lead_type", ["personal", "company"])
        .one_of("status", ["new", "contacted", "qualified", "converted", "lost"])
}

fn opportunities() -> TenantTable {
    TenantTable::new("opportunities")
        .column(uuid_null("account_id"))
        .column(uuid_null("contact_id"))
        .column(uuid_null("lead_id"))
        .column(text("name"))
        .column(text_null("description"))
        .column(decimal_len_null("amount", 15, 2))
        .column(text("stage").default("prospecting"))
        .column(integer_null("probability"))
        .column(text_null("event_type"))
        .column(date_null("event_date"))
        .column(date_null("initial_date"))
        .column(date_null("final_date"))
        .column(text_null("date_type"))
        .column(date_null("expected_close_date"))
        .column(date_null("actual_close_date"))
        .columns(
            ["mailing_address_line1", "mailing_address_line2", "mailing_city", "mailing_state", "mailing_postal_code"]
                .map(text_null),
        )
        .column(text_null("mailing_country").default("US"))
        .columns(["close_notes", "close_reason"].map(text_null))
        .column(boolean_null("is_converted").default(false))
        .column(timestamp_with_time_zone_null("converted_at"))
        .column(uuid_null("converted_event_id"))
        .column(uuid_null("owner_id"))
        .references("account_id", "accounts", OnDelete::Cascade)
        .references("contact_id", "contacts", OnDelete::SetNull)
        .references("lead_id", "leads", OnDelete::SetNull)
        .between("probability", 0, 100)
}

fn opportunity_line_items() -> TenantTable {
    TenantTable::new("opportunity_line_items")
        .column(uuid_null("opportunity_id"))
        .columns(["item_type", "name"].map(text_null))
        .column(text("description"))
        .column(uuid_null("product_id"))
        .column(uuid_null("package_id"))
        .column(uuid_null("add_on_id"))
        .column(decimal_len("quantity", 10, 2).default(1))
        .column(decimal_len("unit_price", 15, 2))
        .column(decimal_len("total", 15, 2))
        .column(integer_null("sort_order"))
        .references("opportunity_id", "opportunities", OnDelete::Cascade)
}

fn locations() -> TenantTable {
    TenantTable::new("locations")
        .column(text("name"))
        .columns(["address_line1", "address_line2", "city", "state", "postal_code"].map(text_null))
        .column(text_null("country").default("US"))
        .columns(["contact_name", "contact_phone", "contact_email"].map(text_null))
        .column(boolean_null("is_one_time").default(false))
        .column(text_null("notes"))
}

fn events() -> TenantTable {
    TenantTable::new("events")
        .column(uuid_null("account_id"))
        .column(uuid_null("contact_id"))
        .column(uuid_null("primary_contact_id"))
        .column(uuid_null("opportunity_id"))
        .column(uuid_null("converted_from_opportunity_id"))
        .column(uuid_null("location_id"))
        .column(uuid_null("event_type_id"))
        .column(uuid_null("event_category_id"))
        .column(text("title"))
        .column(text_null("description"))
        .column(text("event_type"))
        .column(text_null("date_type"))
        .column(date_null("start_date"))
        .column(date_null("end_date"))
        .column(time_null("start_time"))
        .column(time_null("end_time"))
        .column(time_null("setup_time"))
        .column(time_null("load_in_time"))
        .columns(
            [
                "load_in_notes",
                "location",
                "mailing_address_line1",
                "mailing_address_line2",
                "mailing_city",
                "mailing_state",
                "mailing_postal_code",
            ]
            .map(text_null),
        )
        .column(text_null("mailing_country").default("US"))
        .column(uuid_null("event_planner_id"))
        .columns(
            [
                "event_planner_name",
                "event_planner_email",
                "event_planner_phone",
                "venue_contact_name",
                "venue_contact_email",
                "venue_contact_phone",
            ]
            .map(text_null),
        )
        .column(text_null("status").default("scheduled"))
        .column(text_null("payment_status"))
        .column(boolean_null("design_request_submitted").default(false))
        .column(boolean_null("design_form_submitted").default(false))
        .column(date_null("design_form_submitted_date"))
        .column(boolean_null("logistics_form_submitted").default(false))
        .column(date_null("logistics_form_submitted_date"))
        .column(boolean_null("backdrop_design_complete").default(false))
        .column(boolean_null("props_design_complete").default(false))
        .column(boolean_null("client_approval_received").default(false))
        .column(boolean_null("production_files_ready").default(false))
        .column(boolean_null("equipment_assigned").default(false))
        .column(date_null("equipment_assigned_date"))
        .column(boolean_null("software_configured").default(false))
        .column(date_null("software_configured_date"))
        .column(boolean_null("staff_assigned").default(false))
        .column(boolean_null("staff_notified").default(false))
        .column(date_null("staff_notified_date"))
        .column(boolean_null("setup_time_scheduled").default(false))
        .column(boolean_null("transportation_arranged").default(false))
        .column(boolean_null("venue_confirmed").default(false))
        .column(date_null("venue_confirmed_date"))
        .column(boolean_null("final_confirmation_sent").default(false))
        .column(date_null("final_confirmation_sent_date"))
        .column(boolean_null("event_brief_created").default(false))
        .column(date_null("event_brief_created_date"))
        .column(boolean_null("contract_signed").default(false))
        .column(date_null("contract_signed_date"))
        .column(boolean_null("deposit_received").default(false))
        .column(date_null("deposit_received_date"))
        .column(boolean_null("final_payment_received").default(false))
        .column(date_null("final_payment_received_date"))
        .column(boolean_null("equipment_returned").default(false))
        .column(date_null("equipment_returned_date"))
        .column(boolean_null("gallery_delivered").default(false))
        .column(date_null("gallery_delivered_date"))
        .references("account_id", "accounts", OnDelete::Cascade)
        .references("contact_id", "contacts", OnDelete::SetNull)
        .references("primary_contact_id", "contacts", OnDelete::SetNull)
        .references("opportunity_id", "opportunities", OnDelete::SetNull)
        .references("location_id", "locations", OnDelete::SetNull)
        .one_of("status", ["scheduled", "confirmed", "in_progress", "completed", "cancelled"])
}

fn event_dates() -> TenantTable {
    TenantTable::new("event_dates")
        .column(uuid("event_id"))
        .column(uuid_null("opportunity_id"))
        .column(uuid_null("location_id"))
        .column(date("event_date"))
        .column(time_null("start_time"))
        .column(time_null("end_time"))
        .columns(["status", "notes"].map(text_null))
        .references("event_id", "events", OnDelete::Cascade)
        .references("opportunity_id", "opportunities", OnDelete::SetNull)
        .references("location_id", "locations", OnDelete::SetNull)
}

fn tasks() -> TenantTable {
    TenantTable::new("tasks")
        .column(text("title"))
        .column(text_null("description"))
        .column(text_null("status").default("pending"))
        .column(text_null("priority").default("medium"))
        .column(date_null("due_date"))
        .column(timestamp_with_time_zone_null("completed_at"))
        .column(uuid_null("assigned_to"))
        .column(uuid_null("created_by"))
        .column(text_null("entity_type"))
        .column(uuid_null("entity_id"))
        .column(uuid_null("event_date_id"))
        .references("event_date_id", "event_dates", OnDelete::Cascade)
        .one_of("status", ["pending", "in_progress", "completed", "cancelled"])
        .one_of("priority", ["low", "medium", "high", "urgent"])
        .one_of("entity_type", ["account", "contact", "lead", "opportunity", "event", "event_date"])
        .index(["entity_type", "entity_id"])
}

fn notes() -> TenantTable {
    TenantTable::new("notes")
        .column(text("entity_type"))
        .column(uuid("entity_id"))
        .column(text("content"))
        .column(uuid_null("created_by"))
        .one_of("entity_type", ["lead", "account", "contact", "opportunity", "event", "task"])
        .index(["entity_type", "entity_id"])
}

fn attachments() -> TenantTable {
    TenantTable::new("attachments")
        .column(text("entity_type"))
        .column(uuid("entity_id"))
        .column(text("file_name"))
        .column(text_null("file_type"))
        .column(integer_null("file_size"))
        .column(text("storage_path"))
        .column(text_null("description"))
        .column(uuid_null("uploaded_by"))
        .one_of("entity_type", ["account", "contact", "lead", "opportunity", "event", "invoice", "quote", "task"])
        .index(["entity_type", "entity_id"])
}

fn communications() -> TenantTable {
    TenantTable::new("communications")
        .column(uuid_null("account_id"))
        .column(uuid_null("contact_id"))
        .column(uuid_null("lead_id"))
        .column(uuid_null("opportunity_id"))
        .column(uuid_null("event_id"))
        .column(text("communication_type"))
        .column(timestamp_with_time_zone_null("communication_date"))
        .columns(["subject", "notes", "direction", "status"].map(text_null))
        .column(json_binary_null("metadata"))
        .column(uuid_null("created_by"))
        .references("account_id", "accounts", OnDelete::Cascade)
        .references("contact_id", "contacts", OnDelete::Cascade)
        .references("lead_id", "leads", OnDelete::Cascade)
        .references("opportunity_id", "opportunities", OnDelete::SetNull)
        .references("event_id", "events", OnDelete::SetNull)
        .one_of("communication_type", ["email", "phone", "meeting", "note", "sms"])
        .one_of("direction", ["inbound", "outbound"])
}
