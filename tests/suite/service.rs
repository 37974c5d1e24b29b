//! Use cases on a real Postgres: making, changing, ending, deleting.

use std::sync::Arc;
use std::time::Duration;

use batchyard::domain::cluster::{Allocation, Cluster, Deallocation, Scale};
use batchyard::domain::group::Group;
use batchyard::domain::job::{Framework, Job, Phase, Priority};
use batchyard::domain::operation::{State, Verb};
use batchyard::domain::output::OutputPlace;
use batchyard::domain::resource::Provisioning;
use batchyard::domain::snapshot::Change;
use batchyard::error::ErrorCode;
use batchyard::id::{Kind, ResourceId, SubscriptionId};
use batchyard::service::{ListScope, PageRequest, Put};
use batchyard::store::Applied;
use batchyard::task::Tasks;
use batchyard::wake::{Topic, Wake};
use futures_util::future::join_all;
use tokio::time::timeout;
use uuid::Uuid;

use crate::bed::{Bed, connect, new_cluster, service};

#[tokio::test]
async fn a_job_is_made_once_and_never_changed() {
    let bed = Bed::new().await;
    bed.put_cluster(1).await;
    let mut sent = bed.new_job();
    // Names compare without regard to case, and are shown as they were given first.
    sent.spec.cluster = bed.cluster().path().to_uppercase().replace("MICROSOFT", "Microsoft");
    let Put::Created(made, operation) = bed.service.put_job(&bed.caller, &bed.job("J"), sent).await.expect("made") else {
        panic!("existed")
    };
    assert_eq!(made.spec.cluster, bed.cluster().path());
    assert_eq!((operation.state, operation.location.as_str()), (State::Succeeded, "eastus"));
    let stored = bed.service.operation(bed.subscription, operation.id).await.expect("stored");
    assert_eq!((stored.resource, stored.resource_path), (made.uid, made.path.clone()));
    let foreign = bed.service.operation(SubscriptionId(Uuid::new_v4()), operation.id).await.expect_err("another's");
    assert_eq!(foreign.code, ErrorCode::NotFound);

    let Put::Existing(again) = bed.service.put_job(&bed.caller, &bed.job("j"), bed.new_job()).await.expect("there") else {
        panic!("made twice")
    };
    assert_eq!((again.uid, again.generation, again.name.as_str()), (made.uid, 1, "J"));
    let mut other = bed.new_job();
    other.spec.framework = Framework::Custom { command_line: Some("false".into()) };
    let refused = bed.service.put_job(&bed.caller, &bed.job("J"), other).await.expect_err("another body");
    assert_eq!(refused.code, ErrorCode::Conflict);
    let read = bed.service.get::<Job>(&bed.job("J")).await.expect("there");
    assert_eq!((read.status.phase, read.status.phase_changed_at), (Phase::Queued, read.created_at));
    let shown =
        "select count(*) from batchyard.secret s where s::text like '%canary%' or encode(s.sealed, 'escape') like '%canary%'";
    assert_eq!(bed.count(shown).await, 0);
    assert_eq!(bed.count("select count(*) from batchyard.event where what = 'created' and path like '%/jobs/%'").await, 1);
}

#[tokio::test]
async fn what_is_missing_is_named_from_the_outside_in() {
    let bed = Bed::new().await;
    let below = |group: &str, kind, names: &[&str]| {
        ResourceId::below_group(bed.subscription, group, kind, names.iter().map(|name| (*name).to_owned()).collect())
            .expect("an id")
    };
    for (id, code, message) in [
        (
            below("none", Kind::Job, &["w", "e", "j"]),
            ErrorCode::ResourceGroupNotFound,
            "Resource group 'none' could not be found.",
        ),
        (below("RG", Kind::Job, &["w", "e", "j"]), ErrorCode::WorkspaceNotFound, "The specified workspace w is not found"),
        (below("RG", Kind::Job, &["ws", "e", "j"]), ErrorCode::ExperimentNotFound, "The specified experiment e is not found"),
        (below("RG", Kind::Job, &["ws", "exp", "j"]), ErrorCode::JobNotFound, "The specified job j is not found"),
    ] {
        let error = bed.service.get::<Job>(&id).await.expect_err("absent");
        assert_eq!((error.code, error.message.as_str()), (code, message));
        assert_eq!(bed.service.terminate(&bed.caller, &id).await.expect_err("absent").code, code);
        assert!(bed.service.delete(&bed.caller, &id).await.expect("answers").is_none());
        let put = bed.service.put_job(&bed.caller, &id, bed.new_job()).await.expect_err("no cluster yet");
        // All parents are there: what is missing is the cluster.
        assert_eq!(put.code, if code == ErrorCode::JobNotFound { ErrorCode::ClusterNotFound } else { code });
    }
    bed.put_cluster(0).await;
    let mut foreign = bed.new_job();
    foreign.spec.cluster = foreign.spec.cluster.replace(&bed.subscription.to_string(), &Uuid::new_v4().to_string());
    let refused = bed.service.put_job(&bed.caller, &bed.job("j"), foreign).await.expect_err("of another subscription");
    assert_eq!(refused.code, ErrorCode::ClusterNotFound, "as if absent");
    let experiments = ListScope::Parent(below("RG", Kind::Workspace, &["w"]));
    let page = PageRequest { limit: 10, after: None };
    assert_eq!(bed.service.list::<Cluster>(&experiments, &page).await.expect_err("absent").code, ErrorCode::WorkspaceNotFound);
}

#[tokio::test]
async fn pages_follow_each_other_without_gaps() {
    let bed = Bed::new().await;
    bed.put_cluster(0).await;
    for name in ["b", "A", "c_", "c-", "d"] {
        bed.put_job(name).await;
    }
    let scope = ListScope::Parent(bed.experiment());
    let mut names = Vec::new();
    let mut after = None;
    loop {
        let page = bed.service.list::<Job>(&scope, &PageRequest { limit: 2, after }).await.expect("lists");
        assert!(page.items.len() <= 2);
        names.extend(page.items.into_iter().map(|job| job.name));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(names, ["A", "b", "c-", "c_", "d"], "by key, bytewise");
    let all = ListScope::Subscription(bed.subscription);
    let groups = bed.service.list::<Group>(&all, &PageRequest { limit: 1, after: None }).await.expect("lists");
    assert_eq!((groups.items.len(), groups.next), (1, None));
}

#[tokio::test]
async fn a_cluster_is_resized_by_patch_and_by_put_and_counts_its_nodes() {
    let bed = Bed::new().await;
    bed.ready(2).await;
    let read = bed.service.get::<Cluster>(&bed.cluster()).await.expect("there");
    assert_eq!((read.status.nodes.idle, read.status.nodes.current()), (2, 2));
    bed.clock.advance(Duration::from_secs(5));
    let scale = Scale::Manual { target: 5, deallocation: Deallocation::Terminate };
    let patched = bed.service.patch_cluster(&bed.caller, &bed.cluster(), scale).await.expect("patched");
    assert_eq!((patched.spec.scale, patched.generation, patched.status.nodes.idle), (scale, 2, 2));
    assert_eq!((patched.status.allocation, patched.status.allocation_changed_at), (Allocation::Resizing, bed.now()));

    let Put::Existing(put) = bed.service.put_cluster(&bed.caller, &bed.cluster(), new_cluster(7)).await.expect("resized") else {
        panic!("made twice")
    };
    assert!(matches!(put.spec.scale, Scale::Manual { target: 7, .. }));
    assert_eq!(put.generation, 3, "its ETag is another");
    let mut other = new_cluster(7);
    other.spec.user_account.name = "else".into();
    let refused = bed.service.put_cluster(&bed.caller, &bed.cluster(), other).await.expect_err("another body");
    assert_eq!(refused.code, ErrorCode::Conflict);
}

#[tokio::test]
async fn sizes_and_quota_are_checked() {
    let bed = Bed::new().await;
    let mut odd = new_cluster(1);
    odd.spec.vm_size = "STANDARD_D2S_V3".into();
    let refused = bed.service.put_cluster(&bed.caller, &bed.cluster(), odd).await.expect_err("not offered");
    assert_eq!(refused.code, ErrorCode::InvalidPropertyValue);
    assert!(refused.message.contains("Cluster.Properties.VMSize is not a supported VM size"));
    assert_eq!(refused.details.len(), 1);
    assert_eq!((refused.details[0].code.as_str(), refused.details[0].message.as_str()), ("SupportedVMSizes", "STANDARD_D1"));

    // Two may be made, however many ask at once.
    let ids: Vec<_> = (0..6).map(|number| bed.id(Kind::Cluster, &["ws", &format!("c{number}")])).collect();
    let made = join_all(ids.iter().map(|id| bed.service.put_cluster(&bed.caller, id, new_cluster(0)))).await;
    let full: Vec<_> = made.iter().filter_map(|made| made.as_ref().err()).collect();
    assert_eq!(full.len(), 4);
    assert!(full.iter().all(|error| error.code == ErrorCode::ClusterQuotaReached));
    assert!(full[0].message.contains("Maximum allowed: 2, Current in use: 2."), "{}", full[0].message);
}

#[tokio::test]
async fn a_queued_job_ends_with_its_terminate_and_a_running_one_later() {
    let bed = Bed::new().await;
    let machine = bed.ready(1).await.remove(0);
    bed.put_job("a").await;
    let row = bed.snapshot().await.jobs.remove(0);
    bed.clock.advance(Duration::from_secs(3));
    let operation = bed.service.terminate(&bed.caller, &bed.job("a")).await.expect("ends").expect("accepted");
    assert_eq!(operation.state, State::Succeeded);
    let job = bed.service.get::<Job>(&bed.job("a")).await.expect("there");
    assert_eq!((job.status.phase, job.status.exit_code), (Phase::Failed, None));
    assert_eq!((job.status.started_at, job.status.ended_at), (Some(bed.now()), Some(bed.now())));
    assert_eq!(job.status.errors[0].code, "JobTerminated");
    assert!(bed.service.terminate(&bed.caller, &bed.job("a")).await.expect("answers").is_none(), "it had ended");
    let (_, late) = bed.place(&row, &[&machine]);
    assert_eq!(bed.apply(&[late]).await, Applied::Stale, "it does not run any more");

    bed.put_job("b").await;
    let row = bed.snapshot().await.jobs.remove(0);
    let (_, place) = bed.place(&row, &[&machine]);
    assert_eq!(bed.apply(&[place]).await, Applied::All);
    let first = bed.service.terminate(&bed.caller, &bed.job("b")).await.expect("begins").expect("accepted");
    let second = bed.service.terminate(&bed.caller, &bed.job("b")).await.expect("goes on").expect("accepted");
    assert_eq!((first.state, second.state), (State::Running, State::Running));
    let job = bed.service.get::<Job>(&bed.job("b")).await.expect("there");
    assert_eq!(job.status.phase, Phase::Terminating);
}

#[tokio::test]
async fn deletion_reaches_all_below_and_nothing_is_made_there_any_more() {
    let bed = Bed::new().await;
    bed.put_cluster(0).await;
    bed.put_job("a").await;
    let operation = bed.service.delete(&bed.caller, &bed.group()).await.expect("begins").expect("there");
    assert_eq!((operation.state, operation.resource_path.as_str()), (State::Running, bed.group().path().as_str()));
    assert_eq!(bed.count("select count(*) from batchyard.resource where provisioning <> 'deleting'").await, 0);
    let job = bed.service.get::<Job>(&bed.job("a")).await.expect("shown until it is gone");
    assert_eq!(job.provisioning, Provisioning::Deleting);
    let again = bed.service.delete(&bed.caller, &bed.group()).await.expect("begins").expect("there");
    assert_ne!(again.id, operation.id);

    let codes = [
        bed.service.put_job(&bed.caller, &bed.job("a"), bed.new_job()).await.map(|_| ()).expect_err("deleting").code,
        bed.service.put_job(&bed.caller, &bed.job("b"), bed.new_job()).await.map(|_| ()).expect_err("deleting").code,
        bed.service.put_experiment(&bed.caller, &bed.experiment()).await.map(|_| ()).expect_err("deleting").code,
        bed.service.put_cluster(&bed.caller, &bed.cluster(), new_cluster(0)).await.map(|_| ()).expect_err("deleting").code,
        bed.service
            .put_group(&bed.caller, &bed.group(), "eastus".into(), None, None)
            .await
            .map(|_| ())
            .expect_err("deleting")
            .code,
    ];
    use ErrorCode::{Conflict, ResourceGroupBeingDeleted};
    assert_eq!(codes, [Conflict, ResourceGroupBeingDeleted, Conflict, Conflict, ResourceGroupBeingDeleted]);
}

#[tokio::test]
async fn what_is_being_deleted_is_shown_and_not_changed_and_its_jobs_still_end() {
    let bed = Bed::new().await;
    bed.put_cluster(0).await;
    bed.put_job("a").await;
    bed.service.delete(&bed.caller, &bed.workspace()).await.expect("begins").expect("there");

    let scale = Scale::Manual { target: 3, deallocation: Deallocation::Requeue };
    let codes = [
        bed.service.patch_workspace(&bed.caller, &bed.workspace(), None).await.map(|_| ()).expect_err("deleting").code,
        bed.service.patch_cluster(&bed.caller, &bed.cluster(), scale).await.map(|_| ()).expect_err("deleting").code,
        bed.service
            .put_workspace(&bed.caller, &bed.workspace(), "eastus".into(), None)
            .await
            .map(|_| ())
            .expect_err("deleting")
            .code,
    ];
    assert_eq!(codes, [ErrorCode::Conflict; 3]);

    // A client that asks what there is still gets it, and its lists.
    let cluster = bed.service.get::<Cluster>(&bed.cluster()).await.expect("shown until it is gone");
    assert_eq!(cluster.provisioning, Provisioning::Deleting);
    assert!(bed.service.cluster_logins(&bed.cluster()).await.expect("answers").is_empty());
    assert!(bed.service.job_logins(&bed.job("a")).await.expect("answers").is_empty());
    assert!(bed.service.attempts(&bed.job("a")).await.expect("answers").is_empty());
    // Deleting it again, or what lies in it, goes on with what was begun.
    for id in [bed.workspace(), bed.experiment(), bed.cluster(), bed.job("a")] {
        let again = bed.service.delete(&bed.caller, &id).await.expect("goes on").expect("still there");
        assert_eq!(again.state, State::Running, "{id:?}");
    }
    // Ending a job that is to go is no failure: whoever polls the operation sees its end with the job's.
    let ended = bed.service.terminate(&bed.caller, &bed.job("a")).await.expect("answers");
    assert!(ended.is_none_or(|operation| operation.verb == Verb::Terminate));
}

#[tokio::test]
async fn no_job_slips_into_an_experiment_that_is_being_deleted() {
    let bed = Arc::new(Bed::new().await);
    bed.put_cluster(0).await;
    let puts = (0..60).map(|number| {
        let bed = bed.clone();
        async move { bed.service.put_job(&bed.caller, &bed.job(&format!("j{number}")), bed.new_job()).await.map(|_| ()) }
    });
    let experiment = bed.experiment();
    let delete = async {
        // Amid the others.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        bed.service.delete(&bed.caller, &experiment).await
    };
    let (made, deleted) = tokio::join!(join_all(puts), delete);
    deleted.expect("begins").expect("there");
    let left = "select count(*) from batchyard.resource where kind = 'job' and provisioning <> 'deleting'";
    assert_eq!(bed.count(left).await, 0, "{} made", made.iter().filter(|made| made.is_ok()).count());
}

#[tokio::test]
async fn groups_keep_their_region_and_workspaces_their_content() {
    let bed = Bed::new().await;
    let tags = Some([("a".to_owned(), "1".to_owned())].into());
    let Put::Existing(group) =
        bed.service.put_group(&bed.caller, &bed.group(), "eastus".into(), tags.clone(), Some("m".into())).await.expect("updated")
    else {
        panic!("made twice")
    };
    assert_eq!((group.tags, group.spec.managed_by, group.generation), (tags, Some("m".into()), 2));
    let moved = bed.service.put_group(&bed.caller, &bed.group(), "westus".into(), None, None).await.expect_err("elsewhere");
    assert_eq!(moved.code, ErrorCode::InvalidResourceGroupLocation);
    let kept = bed.service.patch_group(&bed.caller, &bed.group(), Some([].into()), None).await.expect("patched");
    assert_eq!((kept.tags, kept.spec.managed_by), (Some([].into()), Some("m".into())));
    let moved = bed.service.put_workspace(&bed.caller, &bed.workspace(), "westus".into(), None).await.expect_err("elsewhere");
    assert_eq!(moved.code, ErrorCode::InvalidResourceLocation);
    let Put::Existing(same) =
        bed.service.put_workspace(&bed.caller, &bed.workspace(), "eastus".into(), None).await.expect("there")
    else {
        panic!("made twice")
    };
    assert_eq!(same.generation, 1);
    let nowhere = ResourceId::group(SubscriptionId(Uuid::new_v4()), "g");
    let refused = bed.service.put_group(&bed.caller, &nowhere, "eastus".into(), None, None).await.expect_err("no subscription");
    assert_eq!(refused.code, ErrorCode::SubscriptionNotFound);
}

#[tokio::test]
async fn outputs_are_on_the_share_or_in_the_archive_of_the_last_attempt() {
    let bed = Bed::new().await;
    let machine = bed.ready(1).await.remove(0);
    let mut new = bed.new_job();
    new.spec.priority = Priority::High;
    new.spec.output_directories = Some(vec![batchyard::domain::job::OutputDirectory {
        id: "OUT".into(),
        path_prefix: "$AZ_BATCHAI_MOUNT_ROOT/shared/runs".into(),
        path_suffix: Some("files".into()),
    }]);
    let Put::Created(job, _) = bed.service.put_job(&bed.caller, &bed.job("a"), new).await.expect("made") else {
        panic!("existed")
    };
    assert_eq!(bed.service.output_place(&bed.job("a"), "OUT").await.expect("answers"), None, "nothing ran yet");
    let unknown = bed.service.output_place(&bed.job("a"), "out").await.expect_err("no such directory");
    assert_eq!(unknown.code, ErrorCode::InvalidQueryParameterValue);
    let row = bed.snapshot().await.jobs.remove(0);
    let (attempt, place) = bed.place(&row, &[&machine]);
    assert_eq!(bed.apply(&[place]).await, Applied::All);
    let standard = bed.service.output_place(&bed.job("a"), "stdOuterr").await.expect("answers");
    assert_eq!(standard, Some(OutputPlace::Archive { attempt, directory: "stdouterr".into() }));
    let path = format!("runs/{}/rg/workspaces/ws/experiments/exp/jobs/a/{}/outputs/files", bed.subscription, job.uid);
    assert_eq!(bed.service.output_place(&bed.job("a"), "OUT").await.expect("answers"), Some(OutputPlace::Share { path }));
}

#[tokio::test]
async fn hints_reach_other_servers() {
    let bed = Bed::new().await;
    let (here, there) = (Wake::default(), Wake::default());
    let tasks = Tasks::new();
    for wake in [&here, &there] {
        service(connect(&bed.url, 2).await, bed.clock.clone(), wake.clone()).run(&tasks);
    }
    let listening = "select count(*) from pg_stat_activity where application_name = 'batchyard listener'
        and datname = current_database() and wait_event = 'ClientRead'";
    timeout(Duration::from_secs(10), async {
        while bed.count(listening).await < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("both listen");
    let mut hints = there.subscribe(Topic::Reconcile);
    let mut heard = false;
    for _ in 0..50 {
        hints.borrow_and_update();
        here.changed(Topic::Reconcile);
        if timeout(Duration::from_millis(200), hints.changed()).await.is_ok() {
            heard = true;
            break;
        }
    }
    assert!(heard);
    assert!(tasks.stop(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn a_removed_job_leaves_its_name_free() {
    let bed = Bed::new().await;
    bed.put_cluster(0).await;
    let first = bed.put_job("a").await;
    bed.service.delete(&bed.caller, &bed.job("a")).await.expect("begins").expect("there");
    let row = bed.snapshot().await.deleting.remove(0);
    assert!(!row.active);
    assert_eq!(bed.apply(&[Change::Remove { uid: row.uid, revision: row.revision, at: bed.now() }]).await, Applied::All);
    assert_eq!(bed.service.get::<Job>(&bed.job("a")).await.expect_err("gone").code, ErrorCode::JobNotFound);
    assert_ne!(bed.put_job("a").await, first, "another one");
}
