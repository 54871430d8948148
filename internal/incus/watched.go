package incus

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// Instances returns the instances of all projects with one request, sorted by project and name. Config and
// Devices include what comes from profiles.
func (c *Client) Instances(ctx context.Context) ([]Owned, error) {
	list, err := objects[expandedAnswer](ctx, c, "/1.0/instances", "")
	if err != nil {
		return nil, fmt.Errorf("list the instances of all projects: %w", err)
	}
	all := make([]Owned, 0, len(list))
	for _, i := range list {
		all = append(all, Owned{i.Project, i.Name, expanded(i)})
	}
	slices.SortFunc(all, func(a, b Owned) int {
		return strings.Compare(a.Project+"/"+a.Name, b.Project+"/"+b.Name)
	})
	return all, nil
}

// Instance returns one instance as Instances does; ErrNotFound when it does not exist.
func (c *Client) Instance(ctx context.Context, project, name string) (plan.ObservedInstance, error) {
	var i expandedAnswer
	err := c.get(ctx, "/1.0/instances/"+url.PathEscape(name), url.Values{"project": {project}}, &i)
	if err != nil {
		return plan.ObservedInstance{}, fmt.Errorf("read instance %s in project %s: %w", name, project, err)
	}
	return expanded(i), nil
}

// expanded is observed with what profiles add.
func expanded(i expandedAnswer) plan.ObservedInstance {
	if i.ExpandedConfig != nil {
		i.Config = i.ExpandedConfig
	}
	if i.ExpandedDevices != nil {
		i.Devices = i.ExpandedDevices
	}
	return observed(i.instanceAnswer)
}

// ProjectKeys returns one config key of every project that has it, by project.
func (c *Client) ProjectKeys(ctx context.Context, key string) (map[string]string, error) {
	var list []projectAnswer
	err := c.get(ctx, "/1.0/projects", url.Values{"recursion": {"1"}}, &list)
	if err != nil {
		return nil, fmt.Errorf("list the projects: %w", err)
	}
	values := map[string]string{}
	for _, p := range list {
		if p.Config[key] != "" {
			values[p.Name] = p.Config[key]
		}
	}
	return values, nil
}
