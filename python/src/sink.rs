//! A Python file object that a payload is written into.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Writes by the object's `write`.
pub struct Sink {
    object: Py<PyAny>,
    raised: Raised,
}

/// What `write` raised, which says more than an I/O error can.
#[derive(Clone, Default)]
pub struct Raised(Arc<Mutex<Option<PyErr>>>);

impl Raised {
    pub fn take(&self) -> Option<PyErr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Sink {
    pub fn new(object: Py<PyAny>) -> Self {
        Self { object, raised: Raised::default() }
    }

    pub fn raised(&self) -> Raised {
        self.raised.clone()
    }

    fn call<T>(&self, call: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T>) -> io::Result<T> {
        Python::attach(|py| {
            call(self.object.bind(py)).map_err(|error| {
                let text = error.to_string();
                *self.raised.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                io::Error::other(text)
            })
        })
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.call(|object| {
            let answer = object.call_method1("write", (PyBytes::new(object.py(), bytes),))?;
            // Objects that only look like files often answer nothing.
            if answer.is_none() { Ok(bytes.len()) } else { answer.extract::<usize>() }
        })?;
        Ok(written.min(bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.call(|object| {
            if object.hasattr("flush")? {
                object.call_method0("flush")?;
            }
            Ok(())
        })
    }
}
