"""azure-mgmt-batchai 7.0.0: the last SDK, over azure-core and azure-identity. It also needs msrest, which it does not declare."""

import journey
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import HeadersPolicy
from azure.identity import ClientSecretCredential
from azure.mgmt.batchai import BatchAI, models
from azure.mgmt.resource.resources import ResourceManagementClient


def way(name, endpoint, credential, **options):
    return journey.Journey(
        BatchAI(credential, journey.SUBSCRIPTION, base_url=endpoint, **options),
        ResourceManagementClient(credential, journey.SUBSCRIPTION, base_url=endpoint, **options),
        models,
        lambda directory_id: models.JobsListOutputFilesOptions(outputdirectoryid=directory_id),
        HttpResponseError,
        name,
    )


def credential():
    return ClientSecretCredential(
        journey.TENANT,
        journey.CLIENT_ID,
        journey.CLIENT_SECRET,
        authority=journey.TLS_ENDPOINT,
        disable_instance_discovery=True,
    )


def over_http():
    """azure-core sends no bearer token over plain http, but a header of the user's own it does."""
    policy = HeadersPolicy({"Authorization": "Bearer " + journey.TOKEN})
    return way("sdk7-http", journey.ENDPOINT, credential(), authentication_policy=policy)


def over_https():
    """A service principal through azure-identity."""
    return way("sdk7-https", journey.TLS_ENDPOINT, credential(), credential_scopes=[journey.TLS_ENDPOINT + "/.default"])


journey.main({"http": over_http, "https": over_https})
