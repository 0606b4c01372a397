//! A stand-in for an OpenTelemetry collector: it takes requests over HTTP and decodes the real protocol.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use prost::Message;

/// A request as it came: its head, and what was in it.
pub type Taken = (String, ExportTraceServiceRequest);

/// Takes requests until nobody sends any more.
pub fn collector() -> (String, mpsc::Receiver<Taken>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("it has an address"));
    let (taken_in, taken) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let taken_in = taken_in.clone();
            std::thread::spawn(move || {
                let mut stream = BufReader::new(stream);
                while let Some(request) = take(&mut stream) {
                    let _ = taken_in.send(request);
                }
            });
        }
    });
    (address, taken)
}

fn take(stream: &mut BufReader<TcpStream>) -> Option<Taken> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    head.make_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let mut body = vec![0; length.trim().parse().expect("a number")];
    stream.read_exact(&mut body).expect("the body is as long as it says");
    let answer = ExportTraceServiceResponse::default().encode_to_vec();
    let written = write!(stream.get_mut(), "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len())
        .and_then(|()| stream.get_mut().write_all(&answer));
    written.expect("the answer is taken");
    Some((head, ExportTraceServiceRequest::decode(body.as_slice()).expect("it is the protocol's")))
}
