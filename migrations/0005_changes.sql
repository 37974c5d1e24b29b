-- Events can be followed: in the order in which everyone can see their transactions, without gaps.

alter table batchyard.event add column tx xid8 not null default pg_current_xact_id();
comment on column batchyard.event.tx is 'The transaction that wrote it. Ids are drawn before the commit, so that a smaller one may become visible later; what is below every transaction under way is complete.';

create index event_tx_idx on batchyard.event (tx, id);
create index event_resource_idx on batchyard.event (resource_uid, id) where caller is not null;
