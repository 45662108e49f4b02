package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// ErrNotFound is wrapped when there is no such object.
var ErrNotFound = errors.New("not found")

// ErrExists is wrapped when an object of that name exists.
var ErrExists = errors.New("already exists")

// ErrConflict is wrapped when an object changed since it was read.
var ErrConflict = errors.New("changed meanwhile")

// DefaultWorkspace is the workspace of a request that names none.
const DefaultWorkspace = "default"

// Object is one record: what every object has, and its own value.
type Object[T any] struct {
	ID        string // UUID
	Name      string // unique within kind and workspace
	Workspace string
	Version   uint64 // resource version: 1 at creation, one more with each update
	Labels    map[string]string
	CreatedAt time.Time
	UpdatedAt time.Time
	Value     T
}

// Collection is the objects of one kind. The maps and slices in the labels and
// value of what it returns are shared with other readers: replace them, do not
// change them.
type Collection[T any] struct {
	store *Store
	kind  string

	// decoded keeps objects at the version at which they were read, so that a list
	// decodes what has changed only. The database says which version counts.
	mu      *sync.Mutex
	decoded map[string]Object[T]
}

func newCollection[T any](s *Store, kind string) Collection[T] {
	return Collection[T]{store: s, kind: kind, mu: &sync.Mutex{}, decoded: map[string]Object[T]{}}
}

func (c Collection[T]) keep(o Object[T]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.decoded[o.ID] = o
}

// kept returns an object if it was decoded at that version.
func (c Collection[T]) kept(id string, version uint64) (Object[T], bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, ok := c.decoded[id]
	return o, ok && o.Version == version
}

const columns = "id, name, workspace, resource_version, labels, payload, created_at_ms, updated_at_ms"

// Create stores a new object at version 1 and returns it as stored. The
// workspace defaults to DefaultWorkspace, CreatedAt and UpdatedAt to now. A taken
// name wraps ErrExists.
func (c Collection[T]) Create(ctx context.Context, o Object[T]) (Object[T], error) {
	o.Version = 1
	if o.Workspace == "" {
		o.Workspace = DefaultWorkspace
	}
	if o.CreatedAt.IsZero() {
		o.CreatedAt = time.Now()
	}
	o.CreatedAt = o.CreatedAt.UTC().Truncate(time.Millisecond)
	o.UpdatedAt = o.CreatedAt
	labels, payload, err := encode(o)
	if err != nil {
		return o, fmt.Errorf("store %s %s: %w", c.kind, o.Name, err)
	}
	c.store.write.Lock()
	defer c.store.write.Unlock()
	result, err := c.store.db.ExecContext(ctx, `INSERT INTO objects
		(id, object_type, name, workspace, resource_version, labels, payload, created_at_ms, updated_at_ms)
		VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		o.ID, c.kind, o.Name, o.Workspace, labels, payload, o.CreatedAt.UnixMilli(), o.UpdatedAt.UnixMilli())
	if err != nil {
		return o, fmt.Errorf("store %s %s: %w", c.kind, o.Name, err)
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return o, fmt.Errorf("store %s %s: %w", c.kind, o.Name, errors.Join(ErrExists, err))
	}
	return o, nil
}

// Update replaces labels and value of the object as it was read: when its version
// moved on since, nothing is written and the error wraps ErrConflict.
func (c Collection[T]) Update(ctx context.Context, o Object[T]) (Object[T], error) {
	labels, payload, err := encode(o)
	if err != nil {
		return o, fmt.Errorf("update %s %s: %w", c.kind, o.Name, err)
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	c.store.write.Lock()
	defer c.store.write.Unlock()
	result, err := c.store.db.ExecContext(ctx, `UPDATE objects SET resource_version = resource_version + 1,
		labels = ?, payload = ?, updated_at_ms = ? WHERE id = ? AND object_type = ? AND resource_version = ?`,
		labels, payload, now.UnixMilli(), o.ID, c.kind, o.Version)
	if err != nil {
		return o, fmt.Errorf("update %s %s: %w", c.kind, o.Name, err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return o, fmt.Errorf("update %s %s: %w", c.kind, o.Name, err)
	}
	if n == 0 {
		if _, err := c.ByID(ctx, o.ID); err != nil {
			return o, err
		}
		return o, fmt.Errorf("update %s %s: %w", c.kind, o.Name, ErrConflict)
	}
	o.Version++
	o.UpdatedAt = now
	return o, nil
}

// Change reads an object, lets change alter its value and stores it, again when
// somebody else was faster. An error of change ends it with nothing written.
func (c Collection[T]) Change(ctx context.Context, id string, change func(*Object[T]) error) (Object[T], error) {
	for {
		o, err := c.ByID(ctx, id)
		if err != nil {
			return o, err
		}
		if err := change(&o); err != nil {
			return o, err
		}
		o, err = c.Update(ctx, o)
		if err == nil || !errors.Is(err, ErrConflict) {
			return o, err
		}
	}
}

// Get returns the object of a name; its absence wraps ErrNotFound.
func (c Collection[T]) Get(ctx context.Context, workspace, name string) (Object[T], error) {
	if workspace == "" {
		workspace = DefaultWorkspace
	}
	row := c.store.db.QueryRowContext(ctx, "SELECT "+columns+
		" FROM objects WHERE object_type = ? AND workspace = ? AND name = ?", c.kind, workspace, name)
	return c.one(row, name)
}

// ByID returns the object of an id; its absence wraps ErrNotFound.
func (c Collection[T]) ByID(ctx context.Context, id string) (Object[T], error) {
	var version uint64
	err := c.store.db.QueryRowContext(ctx, "SELECT resource_version FROM objects WHERE object_type = ? AND id = ?", c.kind, id).Scan(&version)
	if err == nil {
		if o, ok := c.kept(id, version); ok {
			return o, nil
		}
	}
	row := c.store.db.QueryRowContext(ctx, "SELECT "+columns+
		" FROM objects WHERE object_type = ? AND id = ?", c.kind, id)
	return c.one(row, id)
}

func (c Collection[T]) one(row *sql.Row, which string) (Object[T], error) {
	o, err := scan[T](row.Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return o, fmt.Errorf("%s %q: %w", c.kind, which, ErrNotFound)
	}
	if err != nil {
		return o, fmt.Errorf("read %s %q: %w", c.kind, which, err)
	}
	c.keep(o)
	return o, nil
}

// Query selects objects, by name.
type Query struct {
	Workspace string // "" is DefaultWorkspace
	All       bool   // every workspace
	Limit     int    // 0: no limit
	Offset    int
	Names     []string // empty: all
}

// List returns the selected objects in the order of their names.
func (c Collection[T]) List(ctx context.Context, q Query) ([]Object[T], error) {
	where, args := []string{"object_type = ?"}, []any{c.kind}
	if !q.All {
		if q.Workspace == "" {
			q.Workspace = DefaultWorkspace
		}
		where, args = append(where, "workspace = ?"), append(args, q.Workspace)
	}
	if len(q.Names) > 0 {
		where = append(where, "name IN (SELECT value FROM json_each(?))")
		names, err := json.Marshal(q.Names)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", c.kind, err)
		}
		args = append(args, string(names))
	}
	if q.Limit <= 0 {
		q.Limit = -1
	}
	rows, err := c.store.db.QueryContext(ctx, "SELECT id, resource_version FROM objects WHERE "+strings.Join(where, " AND ")+
		" ORDER BY name, workspace LIMIT ? OFFSET ?", append(args, q.Limit, max(q.Offset, 0))...)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", c.kind, err)
	}
	defer rows.Close()
	var order, missing []string
	found := map[string]Object[T]{}
	for rows.Next() {
		var id string
		var version uint64
		if err := rows.Scan(&id, &version); err != nil {
			return nil, fmt.Errorf("list %s: %w", c.kind, err)
		}
		order = append(order, id)
		if o, ok := c.kept(id, version); ok {
			found[id] = o
		} else {
			missing = append(missing, id)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list %s: %w", c.kind, err)
	}
	if err := c.read(ctx, missing, found); err != nil {
		return nil, fmt.Errorf("list %s: %w", c.kind, err)
	}
	list := make([]Object[T], 0, len(order))
	for _, id := range order {
		if o, ok := found[id]; ok { // else it was deleted between the two questions
			list = append(list, o)
		}
	}
	return list, nil
}

// read decodes objects by their ids.
func (c Collection[T]) read(ctx context.Context, ids []string, into map[string]Object[T]) error {
	if len(ids) == 0 {
		return nil
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return err
	}
	rows, err := c.store.db.QueryContext(ctx, "SELECT "+columns+
		" FROM objects WHERE object_type = ? AND id IN (SELECT value FROM json_each(?))", c.kind, string(list))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		o, err := scan[T](rows.Scan)
		if err != nil {
			return err
		}
		c.keep(o)
		into[o.ID] = o
	}
	return rows.Err()
}

// Count is how many objects of the kind there are.
func (c Collection[T]) Count(ctx context.Context) (int, error) {
	var n int
	err := c.store.db.QueryRowContext(ctx, "SELECT count(*) FROM objects WHERE object_type = ?", c.kind).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count %s: %w", c.kind, err)
	}
	return n, nil
}

// Delete removes an object and says whether there was one.
func (c Collection[T]) Delete(ctx context.Context, id string) (bool, error) {
	c.store.write.Lock()
	defer c.store.write.Unlock()
	result, err := c.store.db.ExecContext(ctx, "DELETE FROM objects WHERE object_type = ? AND id = ?", c.kind, id)
	if err != nil {
		return false, fmt.Errorf("delete %s %s: %w", c.kind, id, err)
	}
	c.mu.Lock()
	delete(c.decoded, id)
	c.mu.Unlock()
	n, err := result.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("delete %s %s: %w", c.kind, id, err)
	}
	return n > 0, nil
}

func encode[T any](o Object[T]) (labels, payload string, err error) {
	if o.Labels == nil {
		o.Labels = map[string]string{}
	}
	l, err := json.Marshal(o.Labels)
	if err != nil {
		return "", "", fmt.Errorf("encode labels: %w", err)
	}
	p, err := json.Marshal(o.Value)
	if err != nil {
		return "", "", fmt.Errorf("encode payload: %w", err)
	}
	return string(l), string(p), nil
}

func scan[T any](into func(...any) error) (Object[T], error) {
	var o Object[T]
	var labels, payload []byte
	var created, updated int64
	if err := into(&o.ID, &o.Name, &o.Workspace, &o.Version, &labels, &payload, &created, &updated); err != nil {
		return o, err
	}
	o.CreatedAt, o.UpdatedAt = time.UnixMilli(created).UTC(), time.UnixMilli(updated).UTC()
	if string(labels) != "{}" {
		if err := json.Unmarshal(labels, &o.Labels); err != nil {
			return o, fmt.Errorf("decode labels of %s: %w", o.Name, err)
		}
	}
	if err := json.Unmarshal(payload, &o.Value); err != nil {
		return o, fmt.Errorf("decode payload of %s: %w", o.Name, err)
	}
	return o, nil
}
