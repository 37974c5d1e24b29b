//! PyTorch with gloo on the images of digits. A large package: run by name.

use std::time::Duration;

use serde_json::json;

use super::{assert_succeeded, everything, script, submit, two_nodes};

const NEEDED: [&str; 2] = ["/usr/lib/python3/dist-packages/torch", "/usr/lib/python3/dist-packages/sklearn"];

/// A small network, trained by two ranks on a half of the data each. Prints the accuracy on what neither has seen.
const TRAIN: &str = "
import argparse, torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from sklearn.datasets import load_digits
options = argparse.ArgumentParser()
for name in ['rank', 'world-size']:
    options.add_argument('--' + name, type=int)
options.add_argument('--dist-url')
given = options.parse_args()
torch.set_num_threads(1)
torch.manual_seed(1)
dist.init_process_group('gloo', init_method=given.dist_url, rank=given.rank, world_size=given.world_size)
images, labels = load_digits(return_X_y=True)
images, labels = torch.tensor(images / 16.0, dtype=torch.float32), torch.tensor(labels)
seen = 1400
mine, answers = images[given.rank:seen:given.world_size], labels[given.rank:seen:given.world_size]
layers = torch.nn.Sequential(torch.nn.Linear(64, 48), torch.nn.ReLU(), torch.nn.Linear(48, 10))
model = DistributedDataParallel(layers)
steps = torch.optim.SGD(model.parameters(), lr=0.25)
for _ in range(25):
    for start in range(0, len(mine), 50):
        steps.zero_grad()
        torch.nn.functional.cross_entropy(model(mine[start:start + 50]), answers[start:start + 50]).backward()
        steps.step()
right = (model(images[seen:]).argmax(1) == labels[seen:]).float().mean().item()
print(f'{given.dist_url.split(\":\")[0]} rank {given.rank} accuracy {right:.3f}', flush=True)
";

#[tokio::test]
#[ignore = "needs python3-torch"]
async fn two_ranks_train_together() {
    let Some(site) = two_nodes(&NEEDED).await else { return };
    let path = script(&site, "train.py", TRAIN);
    for (backend, method) in [("gloo", "file"), ("TCP", "tcp")] {
        let settings = json!({
            "pythonScriptFilePath": path, "communicationBackend": backend,
            "commandLineArgs": "--world-size 2 --rank $AZ_BATCHAI_TASK_INDEX --dist-url $AZ_BATCHAI_PYTORCH_INIT_METHOD" });
        submit(&site, backend, "pyTorchSettings", settings, json!({})).await;
        let job = site.ended_within(Duration::from_secs(120), backend).await;
        assert_succeeded(&site, backend, &job).await;
        for rank in 0..2 {
            let stdout = site.read(backend, "stdouterr", &format!("stdout-{rank}.txt")).await;
            let accuracy =
                stdout.trim().strip_prefix(&format!("{method} rank {rank} accuracy ")).and_then(|text| text.parse::<f64>().ok());
            match accuracy {
                Some(accuracy) => assert!(accuracy >= 0.85, "{stdout}"),
                None => panic!("{stdout}\n{}", everything(&site, backend).await),
            }
        }
    }
}
