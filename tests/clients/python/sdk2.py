"""azure-mgmt-batchai 2.0.0: the SDK of the service's own time, over msrest and ADAL."""

import journey
from azure.mgmt.batchai import BatchAIManagementClient, models
from azure.mgmt.resource import ResourceManagementClient
from msrest.authentication import BasicTokenAuthentication
from msrestazure.azure_active_directory import ServicePrincipalCredentials
from msrestazure.azure_cloud import get_cloud_from_metadata_endpoint
from msrestazure.azure_exceptions import CloudError


def way(name, endpoint, credentials):
    return journey.Journey(
        BatchAIManagementClient(credentials, journey.SUBSCRIPTION, base_url=endpoint),
        ResourceManagementClient(credentials, journey.SUBSCRIPTION, base_url=endpoint),
        models,
        lambda directory_id: models.JobsListOutputFilesOptions(outputdirectoryid=directory_id),
        CloudError,
        name,
    )


def over_http():
    """A token that one has already: plain http on loopback."""
    return way("sdk2-http", journey.ENDPOINT, BasicTokenAuthentication({"access_token": journey.TOKEN}))


def over_https():
    """A service principal. ADAL asks a public host about every authority but an AD FS, so it gets one."""
    credentials = ServicePrincipalCredentials(
        client_id=journey.CLIENT_ID,
        secret=journey.CLIENT_SECRET,
        tenant="adfs",
        resource="https://management.core.windows.net/",
        cloud_environment=get_cloud_from_metadata_endpoint(journey.TLS_ENDPOINT),
    )
    return way("sdk2-https", journey.TLS_ENDPOINT, credentials)


journey.main({"http": over_http, "https": over_https})
