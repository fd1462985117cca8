//! S3 as far as one object at a time needs it, in this process: it keeps what it was asked, and can fail.
//!
//! It speaks HTTP on the loopback, so that the library and everything between is what runs in
//! production. Signatures are not looked at, and parts may be as small as they like.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::{Encryption, S3Options, Storage};
use crate::aws::{Aws, AwsOptions};
use crate::catalog::double::Request;

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// It takes effect and the connection ends without an answer.
    LostReply,
    /// The store loses the upload that it belongs to, right before.
    Lost,
    /// It is answered with a status, and has no effect.
    Refused(u16),
}

/// A request that has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    /// By S3's name for it: `PutObject`.
    pub(crate) what: &'static str,
    path: String,
    query: String,
    /// By name in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    method: String,
    body: Vec<u8>,
}

impl From<Request> for Asked {
    fn from(request: Request) -> Self {
        let what = name_of(&request.method, &request.query);
        let Request { method, path, query, headers, body } = request;
        Self { what, path, query, headers, method, body }
    }
}

#[derive(Debug, Default)]
struct Kept {
    /// By bucket and key: `/bucket/key`.
    objects: BTreeMap<String, Vec<u8>>,
    uploads: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
    begun: usize,
    asked: Vec<Asked>,
    faults: BTreeMap<String, VecDeque<Fault>>,
}

/// The double; it ends with the runtime.
#[derive(Debug, Clone)]
pub(crate) struct S3Double {
    endpoint: String,
    kept: Arc<Mutex<Kept>>,
}

impl S3Double {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let double = Self { endpoint: format!("http://{address}"), kept: Arc::default() };
        let serving = double.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let double = serving.clone();
                tokio::spawn(async move { drop(double.serve(stream).await) });
            }
        });
        double
    }

    /// Where it listens.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A place on it.
    pub(crate) async fn storage(&self, location: &str) -> Storage {
        self.encrypted(location, None).await
    }

    /// A place on it whose objects are to be encrypted so.
    pub(crate) async fn encrypted(&self, location: &str, how: Option<Encryption>) -> Storage {
        let options = S3Options {
            endpoint: Some(self.endpoint.clone()),
            path_style: true,
            encryption: how,
            ..options().await
        };
        Storage::open(location, &options).expect("opens")
    }

    /// What goes wrong with the next requests of a kind (`PutObject`), in order.
    pub(crate) fn push(&self, what: &str, fault: Fault) {
        self.lock().faults.entry(what.to_owned()).or_default().push_back(fault);
    }

    /// What was asked since the last time somebody wanted to know.
    pub(crate) fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.lock().asked)
    }

    /// An object by bucket and key.
    pub(crate) fn object(&self, path: &str) -> Option<Vec<u8>> {
        self.lock().objects.get(path).cloned()
    }

    /// Uploads that are neither completed nor given up.
    pub(crate) fn uploads(&self) -> usize {
        self.lock().uploads.len()
    }

    /// Everything is as at the start.
    pub(crate) fn forget(&self) {
        let mut kept = self.lock();
        *kept = Kept { begun: kept.begun, ..Kept::default() };
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        while let Some(request) = Request::read(&mut stream).await? {
            let asked = Asked::from(request);
            let is_head = asked.method == "HEAD";
            let Some((status, body)) = self.lock().answer(asked) else { return Ok(()) };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 {status} X\r\netag: \"e\"\r\n\
                 last-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\ncontent-length: {length}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await?;
            if !is_head {
                stream.write_all(&body).await?;
            }
            stream.flush().await?;
        }
        Ok(())
    }
}

/// Keys and a region that need no environment.
pub(crate) async fn options() -> S3Options {
    let aws = AwsOptions {
        region: Some("eu-west-1".to_owned()),
        access_key_id: Some("key".to_owned()),
        secret_access_key: Some("secret".to_owned()),
        ..AwsOptions::default()
    };
    S3Options { aws: Some(Aws::load(&aws).await.expect("given")), ..S3Options::default() }
}

impl Kept {
    /// Status and body; `None` where there is no answer.
    fn answer(&mut self, asked: Asked) -> Option<(u16, Vec<u8>)> {
        let what = asked.what;
        self.asked.push(Asked { body: Vec::new(), ..asked.clone() });
        match self.faults.get_mut(what).and_then(VecDeque::pop_front) {
            Some(Fault::Refused(status)) => {
                return Some((status, b"<Error><Code>AsTold</Code></Error>".to_vec()));
            }
            Some(Fault::Lost) => self.uploads.clear(),
            Some(Fault::LostReply) => {
                drop(self.done(asked));
                return None;
            }
            None => {}
        }
        Some(self.done(asked))
    }

    fn done(&mut self, asked: Asked) -> (u16, Vec<u8>) {
        let key = asked.path.as_str();
        let of_query = |name: &str| {
            let mut pairs = asked.query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(found, _)| *found == name).map_or("", |(_, value)| value)
        };
        let upload = of_query("uploadId");
        let unknown = (404, b"<Error><Code>NoSuchUpload</Code></Error>".to_vec());
        match asked.what {
            "PutObject" => {
                let only_new = asked.headers.contains_key("if-none-match");
                if only_new && self.objects.contains_key(key) {
                    return (412, b"<Error><Code>PreconditionFailed</Code></Error>".to_vec());
                }
                self.objects.insert(key.to_owned(), asked.body);
                (200, Vec::new())
            }
            "HeadObject" => match self.objects.get(key) {
                Some(object) => (200, object.clone()),
                None => (404, Vec::new()),
            },
            "CreateMultipartUpload" => {
                self.begun += 1;
                let id = format!("u{}", self.begun);
                self.uploads.insert(id.clone(), BTreeMap::new());
                let begun = "InitiateMultipartUploadResult";
                (200, format!("<{begun}><UploadId>{id}</UploadId></{begun}>").into_bytes())
            }
            "UploadPart" => match self.uploads.get_mut(upload) {
                Some(parts) => {
                    let number = of_query("partNumber").parse().expect("a number");
                    parts.insert(number, asked.body);
                    (200, Vec::new())
                }
                None => unknown,
            },
            "CompleteMultipartUpload" => match self.uploads.remove(upload) {
                Some(parts) => {
                    let whole = parts.into_values().flatten().collect();
                    self.objects.insert(key.to_owned(), whole);
                    let done = "CompleteMultipartUploadResult";
                    (200, format!("<{done}><ETag>e</ETag></{done}>").into_bytes())
                }
                None => unknown,
            },
            "AbortMultipartUpload" => match self.uploads.remove(upload) {
                Some(_) => (204, Vec::new()),
                None => unknown,
            },
            _ => (501, Vec::new()),
        }
    }
}

fn name_of(method: &str, query: &str) -> &'static str {
    match (method, query.contains("uploadId=")) {
        ("PUT", false) => "PutObject",
        ("PUT", true) => "UploadPart",
        ("HEAD", _) => "HeadObject",
        ("POST", false) if query.starts_with("uploads") => "CreateMultipartUpload",
        ("POST", true) => "CompleteMultipartUpload",
        ("DELETE", true) => "AbortMultipartUpload",
        _ => "another",
    }
}
