//! Decodes JSON messages of stepstream to columns; `stepstream/inputs/native_json.py` says what for.

mod layout;
mod scan;

use layout::{Columns, FIELDS, MOST_CHILDREN, Name, Node, Rules};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyString};

/// Decodes messages of a layout.
#[pyclass(frozen)]
struct Decoder {
    root: Node,
    rules: Rules,
}

#[pymethods]
impl Decoder {
    /// A tree is a dict with names or places, a list with what its elements are, or the number of a
    /// column; the number after those is the id's.
    #[new]
    fn new(
        tree: &Bound<'_, PyAny>,
        may_be_list: bool,
        needs_time: bool,
        needs_id: bool,
        limits: (usize, usize),
    ) -> PyResult<Self> {
        let (most_bytes, most_readings) = limits;
        let rules = Rules { may_be_list, needs_time, needs_id, most_bytes, most_readings };
        Ok(Decoder { root: make_node(tree)?, rules })
    }

    /// Decode all messages that are in the usual form.
    ///
    /// Gives the numbers of their readings (7 columns of float64, and their rows), the ids if they
    /// are needed, and the rows of all other messages. A message that has another id than the one
    /// that is given is one of those.
    #[allow(clippy::type_complexity)]
    fn decode<'py>(
        &self,
        values: &Bound<'py, PyList>,
        ids: Option<&Bound<'py, PyList>>,
    ) -> PyResult<(Bound<'py, PyByteArray>, Bound<'py, PyList>, Vec<usize>)> {
        let py = values.py();
        let mut columns: Columns = std::array::from_fn(|_| Vec::with_capacity(values.len()));
        let (found, mut others) = (PyList::empty(py), vec![]);
        for (row, value) in values.iter().enumerate() {
            let expected = ids.map(|ids| ids.get_item(row)).transpose()?;
            let expected =
                expected.as_ref().map(|id| id.cast::<PyString>()?.to_str()).transpose()?;
            let id = value.cast::<PyBytes>().ok().and_then(|value| {
                layout::read(&self.root, &self.rules, value.as_bytes(), expected, row, &mut columns)
            });
            if id.is_none() {
                others.push(row);
            }
            if self.rules.needs_id {
                found.append(id.flatten().map(|id| PyBytes::new(py, id)))?;
            }
        }
        let count = columns[FIELDS].len();
        let numbers = PyByteArray::new_with(py, 8 * columns.len() * count, |bytes| {
            for (place, number) in bytes.chunks_exact_mut(8).zip(columns.iter().flatten()) {
                place.copy_from_slice(&number.to_ne_bytes());
            }
            Ok(())
        })?;
        Ok((numbers, found, others))
    }
}

fn make_node(tree: &Bound<'_, PyAny>) -> PyResult<Node> {
    let wrong = || PyValueError::new_err("no tree of names, places and columns");
    if let Ok(children) = tree.cast::<PyDict>() {
        if children.is_empty() || children.len() > MOST_CHILDREN {
            return Err(wrong());
        }
        let (mut named, mut placed) = (vec![], vec![]);
        for (key, child) in children {
            let child = make_node(&child)?;
            if let Ok(name) = key.cast::<PyString>() {
                named.push((Name::new(name.to_str()?).ok_or_else(wrong)?, child));
            } else {
                let place: usize = key.extract().map_err(|_| wrong())?;
                if place >= MOST_CHILDREN {
                    return Err(wrong());
                }
                placed.resize_with(placed.len().max(place + 1), || None);
                placed[place] = Some(child);
            }
        }
        return match (named.is_empty(), placed.is_empty()) {
            (false, true) => Ok(Node::Object(named)),
            (true, false) => Ok(Node::List(placed)),
            _ => Err(wrong()),
        };
    }
    if let Ok(items) = tree.cast::<PyList>() {
        return Ok(Node::Readings(Box::new(make_node(&items.get_item(0)?)?)));
    }
    match tree.extract()? {
        FIELDS => Ok(Node::Id),
        column if column < FIELDS => Ok(Node::Number(column)),
        _ => Err(wrong()),
    }
}

#[pymodule]
fn stepstream_native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<Decoder>()
}
