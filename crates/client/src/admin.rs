//! Whole accounts out of a cluster and into one; for operators.

use kindred_wire::pb::admin::v1 as pb;
use kindred_wire::pb::admin::v1::admin_client::AdminClient;
use tonic::{Status, Streaming};

use crate::{Client, Error};

/// Largest message of an export.
const EXPORT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// An export that goes on through another node where one fails.
pub struct AccountExport {
    client: Client,
    after: Option<pb::Cursor>,
    stream: Option<Streaming<pb::ExportAccountsReply>>,
    node: usize,
    failures: u32,
}

impl Client {
    /// All accounts behind a place; all there are if none is given.
    pub fn export_accounts(&self, after: Option<pb::Cursor>) -> AccountExport {
        AccountExport { client: self.clone(), after, stream: None, node: 0, failures: 0 }
    }

    /// Installs accounts that are not there. The same items with the same request ids may be sent again.
    pub async fn import_accounts(&self, items: Vec<pb::ImportItem>) -> Result<pb::ImportAccountsReply, Error> {
        let message = pb::ImportAccountsRequest { items };
        self.call(message, async |c, r| AdminClient::new(c).import_accounts(r).await).await
    }
}

impl AccountExport {
    /// The next accounts; `None` once all have been told. Safe to cancel.
    pub async fn next(&mut self) -> Result<Option<pb::ExportAccountsReply>, Error> {
        loop {
            let step = match &mut self.stream {
                Some(stream) => stream.message().await,
                None => {
                    let (node, channel) = self.client.channel();
                    self.node = node;
                    let request = pb::ExportAccountsRequest { after: self.after.clone() };
                    let mut admin = AdminClient::new(channel).max_decoding_message_size(EXPORT_BYTES_MAX);
                    match admin.export_accounts(request).await {
                        Ok(reply) => {
                            self.stream = Some(reply.into_inner());
                            continue;
                        }
                        Err(status) => Err(status),
                    }
                }
            };
            let status = match step {
                Ok(Some(reply)) if reply.done => return Ok(None),
                Ok(Some(reply)) => {
                    self.failures = 0;
                    self.after.clone_from(&reply.cursor);
                    return Ok(Some(reply));
                }
                Ok(None) => Status::unavailable("the export ended early"),
                Err(status) => status,
            };
            self.stream = None;
            self.client.resume(self.node, &mut self.failures, status).await?;
        }
    }
}
