-- What the platform knows beside resources: roles of one's own, locks, names of tags, and the record of what was asked for.

alter table batchyard.subscription add column tags jsonb;
comment on column batchyard.subscription.tags is 'Tags of the subscription itself; null where none were ever given.';

create table batchyard.role_definition (
    id uuid not null,
    tenant_id uuid not null,
    name text not null,
    name_key text not null,
    description text not null,
    permissions jsonb not null,
    assignable_scopes text[] not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    created_by uuid not null,
    updated_by uuid not null,
    constraint role_definition_pkey primary key (id),
    constraint role_definition_name_key unique (tenant_id, name_key),
    constraint role_definition_scopes_check check (cardinality(assignable_scopes) > 0)
);
comment on table batchyard.role_definition is 'Roles that users defined. Built-in ones are part of the program.';
comment on column batchyard.role_definition.id is 'The GUID in its path.';
comment on column batchyard.role_definition.tenant_id is 'The directory that it is of.';
comment on column batchyard.role_definition.name is 'Its name as given.';
comment on column batchyard.role_definition.name_key is 'Its name folded: no two roles of a directory share one.';
comment on column batchyard.role_definition.description is 'What people say about it.';
comment on column batchyard.role_definition.permissions is 'Patterns of actions that it allows and excepts.';
comment on column batchyard.role_definition.assignable_scopes is 'Paths of the scopes at or below which it may be assigned.';
comment on column batchyard.role_definition.created_at is 'When it was made.';
comment on column batchyard.role_definition.updated_at is 'When it was last changed.';
comment on column batchyard.role_definition.created_by is 'Who made it.';
comment on column batchyard.role_definition.updated_by is 'Who last changed it.';

alter table batchyard.role_assignment
    alter column role drop not null,
    add column definition_id uuid,
    add column scope_path text,
    add column resource_uid uuid,
    add column description text,
    add column principal_type text,
    add column updated_at timestamptz,
    add column created_by uuid,
    add column updated_by uuid,
    add constraint role_assignment_resource_fkey foreign key (resource_uid) references batchyard.resource (uid) on delete cascade,
    add constraint role_assignment_definition_key unique (principal_id, definition_id, scope);
comment on column batchyard.role_assignment.role is 'What: a built-in role that the first version of this table knew; null for others.';
comment on column batchyard.role_assignment.definition_id is 'What: the role''s GUID; null in rows of the first version, where role tells.';
comment on column batchyard.role_assignment.scope_path is 'Where, as answers show it; null where the key tells.';
comment on column batchyard.role_assignment.resource_uid is 'The resource that it hangs on and goes with; null at a subscription, or where the scope did not exist yet.';
comment on column batchyard.role_assignment.description is 'What people say about it.';
comment on column batchyard.role_assignment.principal_type is 'What the principal is called; for clients alone.';
comment on column batchyard.role_assignment.updated_at is 'When it was last written; null where it never changed.';
comment on column batchyard.role_assignment.created_by is 'Who granted it; null for those who run the installation.';
comment on column batchyard.role_assignment.updated_by is 'Who last wrote it.';

update batchyard.role_assignment
set definition_id = case role
    when 'owner' then '8e3af657-a8ff-443c-a75c-2fe8c4bcb635'::uuid
    when 'contributor' then 'b24988ac-6180-42a0-ab88-20f7382dd24c'::uuid
    when 'reader' then 'acdd72a7-3385-48ef-bd42-f606fba81ae7'::uuid
end;

create index role_assignment_resource_idx on batchyard.role_assignment (resource_uid) where resource_uid is not null;

create table batchyard.management_lock (
    subscription_id uuid not null,
    scope text not null,
    scope_path text not null,
    name_key text not null,
    name text not null,
    level text not null,
    notes text,
    owners jsonb,
    resource_uid uuid,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    created_by uuid not null,
    updated_by uuid not null,
    constraint management_lock_pkey primary key (subscription_id, scope, name_key),
    constraint management_lock_level_check check (level in ('CanNotDelete', 'ReadOnly')),
    constraint management_lock_scope_check check (scope !~ '[A-Z]'),
    constraint management_lock_resource_fkey foreign key (resource_uid) references batchyard.resource (uid) on delete cascade
);
comment on table batchyard.management_lock is 'What may not be changed or deleted, whoever asks.';
comment on column batchyard.management_lock.subscription_id is 'The subscription that it is in.';
comment on column batchyard.management_lock.scope is 'Where: the key of a subscription, group or resource; what is below it is locked too.';
comment on column batchyard.management_lock.scope_path is 'Where, as answers show it.';
comment on column batchyard.management_lock.name_key is 'Its name folded.';
comment on column batchyard.management_lock.name is 'Its name as given.';
comment on column batchyard.management_lock.level is 'What is refused: deleting, or every change.';
comment on column batchyard.management_lock.notes is 'What people say about it.';
comment on column batchyard.management_lock.owners is 'Applications that it is said to be of; for clients alone.';
comment on column batchyard.management_lock.resource_uid is 'The resource that it hangs on; null at a subscription.';
comment on column batchyard.management_lock.created_at is 'When it was set.';
comment on column batchyard.management_lock.updated_at is 'When it was last changed.';
comment on column batchyard.management_lock.created_by is 'Who set it.';
comment on column batchyard.management_lock.updated_by is 'Who last changed it.';

create index management_lock_resource_idx on batchyard.management_lock (resource_uid) where resource_uid is not null;

create table batchyard.tag_name (
    subscription_id uuid not null,
    name_key text not null,
    name text not null,
    constraint tag_name_pkey primary key (subscription_id, name_key)
);
comment on table batchyard.tag_name is 'Names of tags that a subscription keeps in a list, whether or not a resource has them.';
comment on column batchyard.tag_name.subscription_id is 'Whose.';
comment on column batchyard.tag_name.name_key is 'The name folded.';
comment on column batchyard.tag_name.name is 'The name as given.';

create table batchyard.tag_value (
    subscription_id uuid not null,
    name_key text not null,
    value text not null,
    constraint tag_value_pkey primary key (subscription_id, name_key, value),
    constraint tag_value_name_fkey foreign key (subscription_id, name_key)
        references batchyard.tag_name (subscription_id, name_key) on delete cascade
);
comment on table batchyard.tag_value is 'Values that a subscription keeps for a name of that list.';
comment on column batchyard.tag_value.subscription_id is 'Whose.';
comment on column batchyard.tag_value.name_key is 'The name folded.';
comment on column batchyard.tag_value.value is 'The value; its case counts.';

create table batchyard.activity (
    id bigint generated always as identity,
    event_id uuid not null,
    subscription_id uuid not null,
    at timestamptz not null,
    ended_at timestamptz not null,
    correlation text not null,
    caller uuid,
    action text not null,
    key text collate "C" not null,
    path text not null,
    status smallint not null,
    operation_id uuid,
    request jsonb not null,
    constraint activity_pkey primary key (id)
);
comment on table batchyard.activity is 'Requests that wrote, deleted or acted, or wished to: who, what, and what became of it. No bodies, no secrets.';
comment on column batchyard.activity.id is 'Total order within a server; pages follow it.';
comment on column batchyard.activity.event_id is 'Identity of the request; its events have ids made from it.';
comment on column batchyard.activity.subscription_id is 'Where.';
comment on column batchyard.activity.at is 'When the request came.';
comment on column batchyard.activity.ended_at is 'When it was answered.';
comment on column batchyard.activity.correlation is 'Groups related requests: as the caller gave it.';
comment on column batchyard.activity.caller is 'Who asked.';
comment on column batchyard.activity.action is 'The permission that it asked for.';
comment on column batchyard.activity.key is 'What it was about, in lower case.';
comment on column batchyard.activity.path is 'What it was about, as answers show it.';
comment on column batchyard.activity.status is 'The HTTP status of the answer.';
comment on column batchyard.activity.operation_id is 'The operation that went on after the answer, if one did.';
comment on column batchyard.activity.request is 'Method, address, client and refusal, for people.';

create index activity_subscription_idx on batchyard.activity (subscription_id, id desc);
create index activity_at_idx on batchyard.activity (at);
