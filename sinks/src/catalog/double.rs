//! What every double of a catalog is: a small HTTP server in this process that counts what it is
//! asked and fails as it is told.
//!
//! It speaks on the loopback, so that the client and everything between is what runs in
//! production. What it is asked and how it answers is its [`Role`].

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What a double plays.
pub trait Role: Send + 'static {
    /// What tells one refusal from another.
    type Code: Clone + Send;

    /// Lines of every answer's head, each with its end.
    const HEADERS: &'static str;

    /// What is asked, in a word: calls are counted, and go wrong, by it.
    fn call_of(request: &Request) -> &str;

    /// Who may ask at all; faults come after it.
    ///
    /// # Errors
    /// The answer to whoever may not.
    fn admit(&mut self, _call: &str, _request: &Request) -> Result<(), Refusal<Self::Code>> {
        Ok(())
    }

    /// Does what is asked.
    ///
    /// # Errors
    /// Nothing was done, for this reason.
    fn call(&mut self, call: &str, request: &Request) -> Result<Value, Refusal<Self::Code>>;

    /// Somebody else changes the table that the request is about.
    fn foreign_change(&mut self, request: &Request);

    /// Status and body of a refusal.
    fn refused(refusal: Refusal<Self::Code>) -> (u16, Value);
}

/// Why something is not done: the code, and a sentence.
pub type Refusal<C> = (C, String);

/// A request that has come.
#[derive(Debug, Default)]
pub struct Request {
    /// `GET`, `POST`.
    pub method: String,
    /// Before the question mark.
    pub path: String,
    /// After the question mark.
    pub query: String,
    /// By name in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    /// Whatever it is.
    pub body: Vec<u8>,
}

/// What goes wrong with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault<C> {
    /// It takes effect and the connection ends without an answer.
    LostReply,
    /// It takes effect, and the connection ends amid the answer.
    CutReply,
    /// It takes effect, and nothing comes back on a connection that stays open.
    Silence,
    /// It has no effect and the connection ends without an answer.
    LostRequest,
    /// It is refused, and has no effect.
    Refused(C),
    /// It takes effect and is refused.
    DoneAndRefused(C),
    /// It is not answered, and takes effect right before the next request of its kind.
    LandsLate,
    /// Somebody changes the table right before.
    Foreign,
}

/// A server that plays a role until the runtime ends.
pub struct Double<R: Role> {
    address: SocketAddr,
    stage: Arc<Mutex<Stage<R>>>,
}

/// What comes back.
enum Reply {
    /// Status and body.
    Told(u16, Value),
    /// The same, and the body breaks off.
    Cut(u16, Value),
    /// The end of the connection.
    End,
    /// Nothing, for as long as the client waits.
    Silence,
}

pub(super) struct Stage<R: Role> {
    pub(super) role: R,
    counts: BTreeMap<String, u64>,
    faults: BTreeMap<String, VecDeque<Fault<R::Code>>>,
    late: Vec<Request>,
}

impl<R: Role> Double<R> {
    /// Listens on a free port of the loopback.
    pub(super) async fn play(role: R) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (counts, faults, late) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let stage = Arc::new(Mutex::new(Stage { role, counts, faults, late }));
        let double = Self { address, stage: stage.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let stage = stage.clone();
                tokio::spawn(async move { drop(serve(stream, &stage).await) });
            }
        });
        double
    }

    /// Where it listens.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What goes wrong with the next requests of a kind, in order.
    pub fn push(&self, call: &str, fault: Fault<R::Code>) {
        self.lock().faults.entry(call.to_owned()).or_default().push_back(fault);
    }

    /// Somebody changes the table right before each of the next so many requests of a kind, and
    /// nothing else goes wrong with these.
    pub fn keep_busy(&self, call: &str, requests: usize) {
        let foreign = std::iter::repeat_with(|| Fault::Foreign).take(requests);
        self.lock().faults.insert(call.to_owned(), foreign.collect());
    }

    /// Requests by kind since the last time it was asked.
    pub fn take_counts(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.lock().counts)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Stage<R>> {
        lock(&self.stage)
    }
}

fn lock<R: Role>(stage: &Mutex<Stage<R>>) -> MutexGuard<'_, Stage<R>> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve<R: Role>(stream: TcpStream, stage: &Mutex<Stage<R>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = Request::read(&mut stream).await? {
        let reply = lock(stage).answer(request);
        let (status, answer, cut) = match reply {
            Reply::Told(status, answer) => (status, answer, false),
            Reply::Cut(status, answer) => (status, answer, true),
            Reply::End => return Ok(()),
            Reply::Silence => return stream.read_to_end(&mut Vec::new()).await.map(drop),
        };
        let body = answer.to_string();
        let length = body.len();
        let head = format!("HTTP/1.1 {status} X\r\n{}content-length: {length}\r\n\r\n", R::HEADERS);
        stream.write_all(head.as_bytes()).await?;
        let sent = if cut { length / 2 } else { length };
        stream.write_all(&body.as_bytes()[..sent]).await?;
        stream.flush().await?;
        if cut {
            break;
        }
    }
    Ok(())
}

impl<R: Role> Stage<R> {
    fn answer(&mut self, request: Request) -> Reply {
        let call = R::call_of(&request);
        *self.counts.entry(call.to_owned()).or_default() += 1;
        for landing in self.late.extract_if(.., |late| R::call_of(late) == call) {
            drop(self.role.call(call, &landing));
        }
        if let Err(refusal) = self.role.admit(call, &request) {
            let (status, body) = R::refused(refusal);
            return Reply::Told(status, body);
        }
        let fault = self.faults.get_mut(call).and_then(VecDeque::pop_front);
        if matches!(fault, Some(Fault::Foreign)) {
            self.role.foreign_change(&request);
        }
        let mut done = || self.role.call(call, &request);
        let cut = matches!(fault, Some(Fault::CutReply));
        let told = match fault {
            None | Some(Fault::Foreign | Fault::CutReply) => done(),
            Some(Fault::Refused(code)) => Err((code, "as told".to_owned())),
            Some(Fault::DoneAndRefused(code)) => {
                drop(done());
                Err((code, "as told".to_owned()))
            }
            Some(Fault::LostReply) => {
                drop(done());
                return Reply::End;
            }
            Some(Fault::Silence) => {
                drop(done());
                return Reply::Silence;
            }
            Some(Fault::LostRequest) => return Reply::End,
            Some(Fault::LandsLate) => {
                self.late.push(request);
                return Reply::End;
            }
        };
        let (status, body) = told.map_or_else(R::refused, |answer| (200, answer));
        if cut { Reply::Cut(status, body) } else { Reply::Told(status, body) }
    }
}

impl Request {
    /// The next one; `None` at the end of the connection.
    pub(crate) async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Self>> {
        let mut request = Self::default();
        let mut line = String::new();
        loop {
            line.clear();
            let read = tokio::time::timeout(Duration::from_secs(60), stream.read_line(&mut line));
            if !matches!(read.await, Ok(Ok(bytes)) if bytes > 0) {
                return Ok(None);
            }
            if line.trim().is_empty() {
                break;
            }
            if request.method.is_empty() {
                let mut words = line.split_whitespace();
                request.method = words.next().unwrap_or_default().to_owned();
                let url = words.next().unwrap_or_default();
                let (path, query) = url.split_once('?').unwrap_or((url, ""));
                (request.path, request.query) = (path.to_owned(), query.to_owned());
            } else if let Some((name, value)) = line.split_once(':') {
                request.headers.insert(name.to_lowercase(), value.trim().to_owned());
            }
        }
        request.body = vec![0; request.header("content-length").parse().unwrap_or(0)];
        stream.read_exact(&mut request.body).await?;
        Ok(Some(request))
    }

    /// By its name in lower case; empty where there is none.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body; null where it is none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}
